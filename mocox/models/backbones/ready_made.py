"""Base of the backbones of other libraries, which have already initialised the weights."""

from mmengine.model import BaseModule


class ReadyMadeBackbone(BaseModule):
    """A backbone whose weights stand once it is built."""

    def init_weights(self) -> None:
        """MMEngine's entry: the weights are there already; ``init_cfg``, if there is one, loads others."""
        if self.init_cfg and not self.is_init:
            for child in self.modules():  # MMEngine would draw the weights of those anew
                if child is not self and hasattr(child, 'init_weights'):
                    child.is_init = True
            super().init_weights()
        self._is_init = True
