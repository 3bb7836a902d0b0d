"""The words of other tools for what our flags say."""

from __future__ import annotations

from collections.abc import Collection

# Of Torch-Pruning, llm-compressor, SparseGPT, transformers, peft, lm-eval.
_WORDS = {
    "--cut": "sparsity sparsity-ratio sparsity-type sparsity-level ratio amount pruning-ratio "
    "pruning-amount prune-ratio target-sparsity final-sparsity initial-sparsity "
    "columns a-log projections whole blocks pattern mask-structure nm",
    "--targets": "target-modules modules-to-save layers ignore",
    "--scope": "pool spread allocation per-layer",
    "--data": "dataset calibration-data calibration-dataset refit-on train-file corpus",
    "--samples": "num-samples nsamples n-samples num-calibration-samples calibration max-samples",
    "--length": "max-seq-length max-sequence-length seqlen seq-len max-length block-size",
    "--compensate": "recover reconstruct refit",
    "--lm-eval": "tasks task",
    "--few-shot": "num-fewshot num-few-shot fewshot shots",
    "--lm-eval-limit": "limit",
    "--method": "algorithm pruner prune-method peft-type adapter lora",
    "--rate": "learning-rate lr",
    "--steps": "max-steps num-steps train-iters",
    "--epochs": "num-train-epochs num-epochs",
    "--batch-size": "per-device-train-batch-size micro-batch-size train-batch-size",
    "--teacher": "recover-from dense",
    "--out": "output-dir output output-path save save-model",
    "--recipe": "config config-file",
    "--resume": "resume-from-checkpoint",
    "--checkpoints": "resume-from-checkpoint checkpoint-dir save-steps",
    "--precision": "bf16 fp16 dtype torch-dtype",
    "--merge": "merge-and-unload",
    "MODEL, the first argument without a flag": "model model-name model-name-or-path base-model "
    "pretrained model-args",
    "--recipe FILE with methods: [{name: lora, rank: 8}]": "lora-r r rank lora-rank lora-alpha "
    "lora-dropout",
    "--cut weight=2:4": "sparsity-structure",
}
_OF = {"--lm-eval": "eval", "--few-shot": "eval", "--cut": "prune", "--rate": "tune",
       "--teacher": "tune", "--epochs": "tune", "--steps": "tune", "--merge": "tune"}  # fmt: skip
"""The command that has a flag, for those of other commands."""
_USES = {"--cut": "--cut UNIT=AMOUNT, e.g. --cut state=0.5", "--recipe": "--recipe FILE.yaml"}


def our_words(flag: str, known: Collection[str]) -> str:
    """Return a question that leads from another tool's word to our flag, or to its command."""
    word = flag.lstrip("-").lower().replace("_", "-")
    named = [ours for ours, words in _WORDS.items() if word in words.split()]
    for ours in named:
        if ours.split()[0] in known or not ours.startswith("--"):
            return f"did you mean {_USES.get(ours, ours)}?"
    elsewhere = [ours for ours in named if ours in _OF]
    return f"that is {elsewhere[0]} of `ssmith {_OF[elsewhere[0]]}`" if elsewhere else ""
