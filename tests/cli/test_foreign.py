"""Words of other tools lead to flags that work, in the command at hand or the one that has them."""

import pytest

from ssmith.cli.foreign import our_words

PRUNE = {"--cut", "--targets", "--samples", "--length", "--method", "--out"}
TUNE = {
    "--recipe",
    "--data",
    "--method",
    "--rate",
    "--epochs",
    "--out",
    "--batch-size",
    "--precision",
}
EVAL = {"--data", "--lm-eval", "--few-shot"}


@pytest.mark.parametrize(
    ("known", "flag", "said"),
    [
        (PRUNE, "--sparsity", "--cut UNIT=AMOUNT"),
        (PRUNE, "--target_sparsity", "--cut UNIT=AMOUNT"),
        (PRUNE, "--num_calibration_samples", "--samples"),
        (PRUNE, "--max_seq_length", "--length"),
        (TUNE, "--learning_rate", "--rate"),
        (TUNE, "--num_train_epochs", "--epochs"),
        (TUNE, "--output_dir", "--out"),
        (TUNE, "--per_device_train_batch_size", "--batch-size"),
        (TUNE, "--lora_r", "methods: [{name: lora, rank: 8}]"),
        (TUNE, "--model_name_or_path", "MODEL, the first argument"),
        (TUNE, "--tasks", "that is --lm-eval of `ssmith eval`"),
        (EVAL, "--tasks", "--lm-eval"),
        (EVAL, "--num_fewshot", "--few-shot"),
        (EVAL, "--sparsity", "that is --cut of `ssmith prune`"),
        (EVAL, "--learning_rate", "that is --rate of `ssmith tune`"),
        (EVAL, "--bananas", ""),
    ],
)
def test_a_word_of_another_tool_leads_to_what_works(known, flag, said):
    assert (said in our_words(flag, known)) if said else our_words(flag, known) == ""
