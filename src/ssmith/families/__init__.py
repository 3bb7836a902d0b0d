"""Model families: what a family calls things, where its states live, how to cut them."""

from ssmith.families.chain import can_go, chain_of, name_ties_, sync_depth_, without_block
from ssmith.families.coupling import spread, weigh
from ssmith.families.family import Site
from ssmith.families.heads import (
    Answers,
    HeadConfig,
    TaskModel,
    answers_of,
    new_task_model,
    preparation_of,
    renew_head_,
    with_head,
)
from ssmith.families.hf import directory_of, hf_facts, vocabulary_of
from ssmith.families.lti import LTILayer, LTIOptions
from ssmith.families.registry import (
    beside,
    describe,
    find_layers,
    model_digest,
    modes_of,
    scan_of,
    sites,
    ssm_sites,
    stock_configs,
    sync_config_,
)
from ssmith.families.s4d import S4DLayer
from ssmith.families.s5 import S5Layer
from ssmith.families.sequence import ModelState, SequenceConfig, SequenceModel

__all__ = [
    "Answers",
    "HeadConfig",
    "LTILayer",
    "LTIOptions",
    "ModelState",
    "S4DLayer",
    "S5Layer",
    "SequenceConfig",
    "SequenceModel",
    "Site",
    "TaskModel",
    "answers_of",
    "beside",
    "can_go",
    "chain_of",
    "describe",
    "directory_of",
    "find_layers",
    "hf_facts",
    "model_digest",
    "modes_of",
    "name_ties_",
    "new_task_model",
    "preparation_of",
    "renew_head_",
    "scan_of",
    "sites",
    "spread",
    "ssm_sites",
    "stock_configs",
    "sync_config_",
    "sync_depth_",
    "vocabulary_of",
    "weigh",
    "with_head",
    "without_block",
]
