"""What a person set once for all projects, kept in the data root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from PySide6.QtCore import QObject, Signal

from mlx_lora.storage import write_file

if TYPE_CHECKING:
    from pathlib import Path


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings.

    Attributes:
        memory_share: of the memory training may use, how much the forecast takes as its limit;
            0.5 to 1.
        models_folder: where local models are looked for, beside the Hugging Face cache.
        exports_folder: where exports go; empty for the run's own folder.
        geometry: of the window, as Qt wrote it, in hex.
    """

    theme: Literal["system", "light", "dark"] = "system"
    preset: Literal["quick", "balanced", "thorough"] = "balanced"
    memory_share: Annotated[float, msgspec.Meta(ge=0.5, le=1.0)] = 1.0
    keep_awake: bool = True
    models_folder: str = ""
    exports_folder: str = ""
    geometry: str = ""
    welcomed: bool = False


class SettingsStore(QObject):
    """The settings and their file; `changed` carries them after each change."""

    changed = Signal(object)

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._file = root / "settings.json"
        self.value = self._read()

    def update(self, **changes: Any) -> None:
        """Change some, save, tell."""
        after = msgspec.structs.replace(self.value, **changes)
        if after == self.value:
            return
        self.value = after
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._file, msgspec.json.format(msgspec.json.encode(after)))
        self.changed.emit(after)

    def reset(self) -> None:
        """As on the first day."""
        plain = Settings(geometry=self.value.geometry, welcomed=True)
        self.update(**msgspec.structs.asdict(plain))

    def _read(self) -> Settings:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Settings)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return Settings()
