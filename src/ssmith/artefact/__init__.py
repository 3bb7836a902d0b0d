"""Models on disk: safetensors and JSON, with a manifest that can be verified."""

from ssmith.artefact.adapters import base_digest, load_adapter_, read_adapter, save_adapter
from ssmith.artefact.layout import WEIGHTS
from ssmith.artefact.load import load, load_sequence_model
from ssmith.artefact.locate import EMBEDDED, embedded_names, locate
from ssmith.artefact.portable import portable
from ssmith.artefact.save import save
from ssmith.artefact.tuned import based_on
from ssmith.artefact.verify import Check, verify

__all__ = [
    "EMBEDDED",
    "WEIGHTS",
    "Check",
    "base_digest",
    "based_on",
    "embedded_names",
    "load",
    "load_adapter_",
    "load_sequence_model",
    "locate",
    "portable",
    "read_adapter",
    "save",
    "save_adapter",
    "verify",
]
