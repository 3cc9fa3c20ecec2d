"""Installs mocox, with its configs and tools where MIM and ``_base_ = ['mocox::...']`` look for them.

They lie outside the package in a clone and inside it, in ``mocox/.mim``, once installed: copied into a wheel, linked in
an editable installation, so that an edited config is the one that runs.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
MIM = ('configs', 'tools', 'model-index.yml')
# In tools/, not in a wheel.
OF_DEVELOPERS = ('lab', 'benchmark.py', 'forecast.py', 'fault_injection.py', 'quality.py', 'gpu_day.py')


class BuildWithMim(build_py):
    """``build_py`` that also fills ``mocox/.mim``."""

    def run(self) -> None:
        """Copies into the build folder, or links in the source folder."""
        super().run()
        folder = ROOT / 'mocox' / '.mim' if self.editable_mode else Path(self.build_lib, 'mocox', '.mim')
        shutil.rmtree(folder, ignore_errors=True)  # a config that was deleted must not survive in an old build folder
        folder.mkdir(parents=True)
        for name in MIM:
            self._place(ROOT / name, folder / name)

    def _place(self, source: Path, target: Path) -> None:
        if self.editable_mode:
            try:
                target.symlink_to(Path('..', '..', source.name), target_is_directory=source.is_dir())
                return
            except OSError:  # Windows without the right to make links
                self.warn(f'cannot link {target}: copied, so run the installation again after editing {source.name}')
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '.*', *OF_DEVELOPERS))
        else:
            shutil.copy(source, target)


def read_version() -> str:
    """The version without importing the package, whose requirements may not be installed yet."""
    scope: dict = {}
    exec((ROOT / 'mocox' / 'version.py').read_text(), scope)
    return scope['__version__']


setup(
    name='mocox',
    version=read_version(),
    description='Momentum Contrast (MoCo v1, v2, v3) self-supervised pre-training in the OpenMMLab style',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords='self-supervised learning, contrastive learning, MoCo, vision transformer, OpenMMLab',
    author='The mocox authors',
    project_urls={
        'MoCo v3': 'https://arxiv.org/abs/2104.02057',
        'MoCo v2': 'https://arxiv.org/abs/2003.04297',
        'MoCo v1': 'https://arxiv.org/abs/1911.05722',
    },
    license_expression='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(11, 15)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    # The default, said: so an editable installation puts this folder on the path. Without it a finder of setuptools,
    # which is asked last, finds the package; in the parent folder of a clone called mocox, Python would take the clone
    # itself for a namespace package of that name.
    package_dir={'': '.'},
    entry_points={'console_scripts': ['mocox = mocox.__main__:main']},
    packages=find_packages(include=['mocox', 'mocox.*']),
    package_data={'mocox.report': ['page.html']},
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.11',
    install_requires=[
        # torch and torchvision are released as a pair: naming both lets the installer find one that fits.
        'torch>=2.10',  # before, a checkpoint read with weights_only=True could corrupt memory (CVE-2026-24747)
        'torchvision>=0.25',
        'timm>=1.0.21',  # 1.0.21: its transformer can be built on the meta device
        'mmengine>=0.10.7',
        'mmcv-lite>=2.1',  # the `mmcv` module without compiled operators, none of which is used
        'mmpretrain>=1.2',
        # The floors of Pillow, scikit-learn, jinja2, pydicom, pillow-heif and python-gdcm are the first
        # without a weakness known to us. Pillow 13 mends an overflow in its JPEG decoder, and needs Python 3.11.
        'numpy>=1.26',
        'pillow>=13.0',
        'matplotlib>=3.8',
        'safetensors>=0.4.3',
        'scikit-learn>=1.5',
        'jinja2>=3.1.6',
    ],
    extras_require={
        'fast': ['simplejpeg>=1.8'],  # decodes JPEGs a little faster than OpenCV, the same pixels
        'webdataset': ['webdataset>=0.2.86', 'fsspec[http]>=2024.2'],
        'lmdb': ['lmdb>=1.4'],
        # TIFF of any kind, GeoTIFF, OME, JPEG 2000 and XL
        'scientific': ['tifffile>=2024.8.10', 'imagecodecs>=2025.3.30'],
        'dicom': [
            'pydicom>=3.0.2',
            'pylibjpeg>=2.0',
            'pylibjpeg-openjpeg>=2.3',
            'python-gdcm>=3.2.2',
            'imagecodecs>=2025.3.30',  # JPEG of 12 bits
        ],
        'heif': ['pillow-heif>=1.3'],
        'transformers': ['transformers>=4.56'],  # its models as backbones; DINOv3 since 4.56
        'onnx': ['onnx>=1.20', 'onnxscript>=0.7', 'onnxruntime>=1.22'],  # --to onnx; torch's exporter needs the second
        'parquet': ['pyarrow>=20'],  # features as a table
        'umap': ['umap-learn>=0.5'],  # a third map of features
        'docs': ['sphinx>=8.1', 'furo>=2024.8.6', 'myst-nb>=1.2', 'sphinx-copybutton>=0.5.2'],
        'test': [
            'pytest>=8',
            'setuptools>=78.1.1',  # builds what is tested
            'nbclient>=0.10',  # runs the tutorials
            'ipykernel>=6.29',
            'transformers>=4.56',
            'pytest-xdist>=3.6',
            'ruff>=0.9',
            'mypy>=1.14',
            'hypothesis>=6.100',
            'webdataset>=0.2.86',
            'fsspec[http]>=2024.2',
            'lmdb>=1.4',
            'tifffile>=2024.8.10',
            'imagecodecs>=2025.3.30',
            'pydicom>=3.0.2',
            'pylibjpeg>=2.0',
            'pylibjpeg-openjpeg>=2.3',
            'python-gdcm>=3.2.2',
            'pillow-heif>=1.3',
            'tensorboard>=2.16',
            'onnx>=1.20',
            'onnxscript>=0.7',
            'onnxruntime>=1.22',
            'pyarrow>=20',
        ],
    },
    zip_safe=False,
)
