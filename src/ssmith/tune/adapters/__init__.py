"""Adapters: small sets of tensors trained on a frozen model, that cannot be silently off."""

from ssmith.tune.adapters.additional_scan import AdditionalScan
from ssmith.tune.adapters.attach import attach_, check_complete, detach_, recounted
from ssmith.tune.adapters.auto import Auto
from ssmith.tune.adapters.core import Core
from ssmith.tune.adapters.initial_state import InitialState
from ssmith.tune.adapters.lora import LoRA
from ssmith.tune.adapters.merge import merge_
from ssmith.tune.adapters.method import NAMED, Method, WarmedMethod, by_name, methods_of
from ssmith.tune.adapters.prefix import PrefixTuning
from ssmith.tune.adapters.prompt import PromptTuning
from ssmith.tune.adapters.proof import prove
from ssmith.tune.adapters.registry import adapters_of, groups, matrices, trainable
from ssmith.tune.adapters.report import AttachReport
from ssmith.tune.adapters.sdt import SDT
from ssmith.tune.adapters.select import select_, warming
from ssmith.tune.adapters.state import load_state_, state
from ssmith.tune.adapters.state_offset import StateOffset
from ssmith.tune.adapters.switch import active, disabled, rows, use_
from ssmith.tune.adapters.tensors import BitFit, FullFineTuning, Parameters

METHODS = tuple(sorted(NAMED))
from_plain = Method.from_plain

__all__ = [
    "METHODS",
    "SDT",
    "AdditionalScan",
    "AttachReport",
    "Auto",
    "BitFit",
    "Core",
    "FullFineTuning",
    "InitialState",
    "LoRA",
    "Method",
    "Parameters",
    "PrefixTuning",
    "PromptTuning",
    "StateOffset",
    "WarmedMethod",
    "active",
    "adapters_of",
    "attach_",
    "by_name",
    "check_complete",
    "detach_",
    "disabled",
    "from_plain",
    "groups",
    "load_state_",
    "matrices",
    "merge_",
    "methods_of",
    "prove",
    "recounted",
    "rows",
    "select_",
    "state",
    "trainable",
    "use_",
    "warming",
]
