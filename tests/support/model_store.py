"""What a model store serves."""

from __future__ import annotations

from almenara_api.store import ModelStore


def versions(store: ModelStore) -> dict[str, str]:
    """Version of the champion in service, by the model's name."""
    return {name: loaded.entry.version for name, loaded in store.snapshot.loaded.items()}
