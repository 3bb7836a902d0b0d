"""Hugging Face models with selective layers: run on our scans, undone without trace."""

from ssmith.families.hf.create import SIZES, LanguageSize, MambaSize, new_language_model, new_mamba
from ssmith.families.hf.engine import EngineReport, accelerate_, engine, restore_
from ssmith.families.hf.facts import hf_facts
from ssmith.families.hf.native import from_mamba_ssm
from ssmith.families.hf.text import directory_of, vocabulary_of

__all__ = [
    "SIZES",
    "EngineReport",
    "LanguageSize",
    "MambaSize",
    "accelerate_",
    "directory_of",
    "engine",
    "from_mamba_ssm",
    "hf_facts",
    "new_language_model",
    "new_mamba",
    "restore_",
    "vocabulary_of",
]
