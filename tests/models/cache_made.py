"""Models in a Hugging Face cache of a test's own, as the hub's library lays them out."""

from __future__ import annotations

from pathlib import Path

from hub_server import LARGE, git_name, sha256


def put_in_cache(
    cache: Path, source: str, files: dict[str, bytes], commit: str = "c" * 40, ref: str = "main"
) -> Path:
    """Blobs by their hash, a snapshot of links to them, and the reference; returns the snapshot."""
    folder = cache / f"models--{source.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for place in (folder / "blobs", folder / "refs", snapshot):
        place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = folder / "blobs" / (sha256(content) if len(content) >= LARGE else git_name(content))
        blob.write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    if ref:
        (folder / "refs" / ref).write_text(commit)
    return snapshot


def files_of(folder: Path) -> dict[str, bytes]:
    """The contents of a model's folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def into_shards(files: dict[str, bytes], count: int = 3) -> dict[str, bytes]:
    """The same model with its weights in several files and an index."""
    import json

    head = int.from_bytes(files["model.safetensors"][:8], "little")
    header = json.loads(files["model.safetensors"][8 : 8 + head])
    header.pop("__metadata__", None)
    data = files["model.safetensors"][8 + head :]
    made = {name: content for name, content in files.items() if name != "model.safetensors"}
    places: dict[str, str] = {}
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        table, body = {}, b""
        for tensor in sorted(header)[number::count]:
            begin, end = header[tensor]["data_offsets"]
            span = [len(body), len(body) + end - begin]
            table[tensor] = {**header[tensor], "data_offsets": span}
            body += data[begin:end]
            places[tensor] = name
        text = json.dumps(table).encode()
        text += b" " * (-len(text) % 8)
        made[name] = len(text).to_bytes(8, "little") + text + body
    index = {"metadata": {}, "weight_map": places}
    return made | {"model.safetensors.index.json": json.dumps(index).encode()}
