"""Tar shards as tarfile writes them."""

import io
import tarfile
from pathlib import Path


def write_shard(path: Path, members: dict[str, bytes], **options) -> None:
    """Writes members, in their order, into a new archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w', **options) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
