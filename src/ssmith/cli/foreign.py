"""The words of other tools for what our flags say."""

from __future__ import annotations

from collections.abc import Collection

# Of Torch-Pruning, llm-compressor, SparseGPT, transformers, peft, lm-eval.
_WORDS = {
    "--cut": "sparsity sparsity-ratio sparsity-type sparsity-level ratio amount pruning-ratio "
    "pruning-amount prune-ratio columns a-log projections whole blocks pattern mask-structure nm",
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
    "--recipe": "config",
}
_USES = {"--cut": "--cut UNIT=AMOUNT, e.g. --cut state=0.5", "--recipe": "--recipe FILE.yaml"}


def our_words(flag: str, known: Collection[str]) -> str:
    """Return the question that leads from another tool's word to our flag, if there is one."""
    word = flag.lstrip("-").lower().replace("_", "-")
    for ours, words in _WORDS.items():
        if ours in known and word in words.split():
            return f"did you mean {_USES.get(ours, ours)}?"
    return ""
