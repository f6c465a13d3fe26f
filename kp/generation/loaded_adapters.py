"""A base model with several saved adapters loaded, one of which is active, so that adapters can be exchanged for every few questions."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from kp.errors import UserError
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_config, adapter_digest, first_adapted_layer

ADAPTERS_KEPT = 16
"""Loaded adapters; the one that was active least recently is dropped first."""

# What PEFT cannot have next to other adapters, or cannot switch off.
_ALONE = ("modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")


class LoadedAdapters:
    """`model` is the base with the active adapter; before the first adapter it is the base itself, later PEFT's wrapper of it."""

    def __init__(self, base: torch.nn.Module, most: int = ADAPTERS_KEPT) -> None:
        self.model: torch.nn.Module = base
        self.active: str | None = None
        """The digest of the active adapter."""
        self.folder: Path | None = None
        """From which it was activated."""
        self.first_layer = 0
        """The first layer that the active adapter changes; 0 without one."""
        self._most = most
        self._loaded: OrderedDict[str, int] = OrderedDict()  # by digest, with the first adapted layer
        self._digests: dict[Path, tuple[object, str]] = {}
        self._alone = False

    def activate(self, folder: Path | None) -> None:
        """Make the adapter in this folder the active one, loading it if its content is not loaded; None: no adapter.

        Raises UserError if the folder has no adapter, or one for modules that this model does not have; in the first case the active
        adapter stays, in the second none is active.
        """
        if folder is None:
            self._deactivate()
            return
        digest = self._digest(folder)
        if digest == self.active:
            return
        if digest not in self._loaded:
            self._load(folder, digest)
        self._loaded.move_to_end(digest)
        self._peft.enable_adapter_layers()
        self._peft.set_adapter(digest, inference_mode=True)
        self.active, self.folder, self.first_layer = digest, folder, self._loaded[digest]

    @property
    def _peft(self) -> Any:
        return self.model

    def _deactivate(self) -> None:
        if self._alone:
            self._unload()
        elif self._loaded:
            self._peft.disable_adapter_layers()
        self.active, self.folder, self.first_layer = None, None, 0

    def _load(self, folder: Path, digest: str) -> None:
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import safe_open

        from kp.models.lora_product import use_lean_products  # which needs PEFT, as the base alone does not

        config = adapter_config(folder)
        if config.get("bias", "none") != "none":
            raise UserError(f"adapter {folder}: replaces biases of the base model, which it would change for all others")
        alone = any(config.get(name) for name in _ALONE)
        if alone or self._alone:
            self._unload()
        self._deactivate()
        while len(self._loaded) >= self._most:
            self._drop(next(iter(self._loaded)))
        # Keep the stored weights in the model's dtype: the same arithmetic as in training.
        options: dict[str, Any] = {"adapter_name": digest, "autocast_adapter_dtype": False}
        if self._loaded:
            self._peft.load_adapter(str(folder), **options)
        else:
            self.model = PeftModel.from_pretrained(self.model, str(folder), **options)
        use_lean_products(self.model, digest)
        self._loaded[digest], self._alone = first_adapted_layer(folder), alone
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as stored:
            names = set(stored.keys())
        if names != set(get_peft_model_state_dict(self.model, adapter_name=digest, save_embedding_layers=False)):
            self._drop(digest)
            self._deactivate()
            raise UserError(f"adapter {folder}: was trained on other modules than this model has")
        self.model.eval()

    def _drop(self, digest: str) -> None:
        if len(self._loaded) == 1:
            self._unload()
        else:
            self._peft.delete_adapter(digest)
            del self._loaded[digest]

    def _unload(self) -> None:
        """The base alone."""
        if self._loaded:
            for digest in self._loaded:
                self._peft.delete_adapter(digest)  # otherwise PEFT leaves whole modules of the active one in the base
            self.model = self._peft.unload()
        self._loaded.clear()
        self._alone, self.active, self.folder, self.first_layer = False, None, None, 0

    def _digest(self, folder: Path) -> str:
        """The adapter's digest, from its files only if they have changed since."""
        try:
            stats = [(folder / name).stat() for name in (CONFIG_FILE, WEIGHTS_FILE)]
        except FileNotFoundError:
            return adapter_digest(folder)  # which says what is missing
        state = [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]
        known, digest = self._digests.get(folder, (None, ""))
        if known != state:
            digest = adapter_digest(folder)
            self._digests[folder] = (state, digest)
        return digest
