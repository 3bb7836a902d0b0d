"""What verdicts, findings of receipts and cards say, as patterns (see `retelling`)."""

from __future__ import annotations

from ssmith.dashboard.language import mark

WHOLE = (
    mark(
        "{metric} {before} → {after} on {count} {noun}: loss {loss}, allowed {limit}: "
        "{more} of {units} more wrong; {most} allowed ({test}: p = {p})"
    ),
    mark(
        "{metric} {before} → {after} on {count} {noun}: loss {loss}, allowed {limit}: "
        "{more} of {units} fewer wrong; {most} allowed ({test}: p = {p})"
    ),
    mark(
        "{metric}: {before} → {after}, difference {difference} ({interval}); reported, not "
        "judged: no tolerance given"
    ),
    mark(
        "{metric}: {before} → {after}, difference {difference} ({interval}); loss {loss}, "
        "allowed {limit} ({said})"
    ),
    mark(
        "the model before any change has {metric} {before}, which is no better than "
        "{answer} ({naive}): anything can be cut from a model that guesses; train it, or "
        "check that the data is what it was trained on"
    ),
    mark(
        "the model before any change has {metric} {before}, which is not proven better "
        "than {answer} ({naive}): anything can be cut from a model that guesses; train it, "
        "or check that the data is what it was trained on"
    ),
    mark("Recall on {count} texts each: {tasks}; allowed loss {limit}"),
    mark("no; ssmith opens it"),
    mark("yes; stock transformers opens it and gives the same logits"),
    mark("no; ssmith opens it, given the class of the network: load(path, build=…)"),
    mark(
        "no; its states are projected, and only ssmith runs them; stock transformers opens "
        "the weights with all states, as before the cut"
    ),
    mark("no; it has offsets that stock transformers does not know, and only ssmith opens it"),
    mark("no; {norm} has an epsilon of its own, and only ssmith opens it"),
    mark("no; its configuration does not say the sizes of its tensors"),
    mark("no; layers hold unequal numbers of {what}, and only ssmith opens it"),
)
"""Sentences that hold a mark by which others are told apart: these are tried first."""
SAID = (
    mark(
        "{metric} {before} → {after} on {count} {noun}: loss {loss}, allowed {limit} "
        "({test}: p = {p})"
    ),
    mark("Allowed: {limit}"),
    mark("Cut less, or accept it with a larger max_recall_loss"),
    mark("not judged: the model before hardly knew it"),
    mark("{why}, so nothing is proven"),
    mark("Models that are equally good can differ by so much by chance ({level})"),
    mark(
        "The true loss is at least {loss} ({level} sure), so chance alone could explain the excess"
    ),
    mark("The true loss is at least {loss} ({level} sure)"),
    mark("Proven: the true loss is at most {loss} ({level} sure)"),
    mark("Not proven: the true loss may be up to {loss} ({level} sure)"),
    mark("With this loss no larger test set would prove it"),
    mark("The test set is too small: about {count} {noun} that behave alike would prove it"),
    mark("{metric} {before} before any change against {naive} of {answer}"),
    mark("always giving the labels that most rows have"),
    mark("always naming the most frequent class"),
    mark("always giving the frequencies of the classes"),
    mark("always giving the frequencies of the tokens"),
    mark("always giving the mean target"),
    mark("always giving the median target"),
    mark("always giving the last value of the series"),
    mark("Beyond the tolerance in {dtype}: {checks}"),
    mark("Largest absolute differences in {dtype}: {checks}"),
    mark("Nothing was compared"),
    mark("Not measured: {checks}"),
    mark("shrunk_vs_masked {value}"),
    mark("saved_vs_loaded {value}"),
    mark("step_vs_scan {value}"),
    mark("cut_stays_cut {value}"),
    mark("engine_vs_stock {value}"),
    mark("engine_vs_stock"),
    mark(
        "the model holds {name}: transformers' own code knows neither offsets nor projected states"
    ),
    mark("Neither size, memory nor time fell by {share}: {what}"),
    mark("nothing was measured"),
    mark("not settled, so that it does not count"),
    mark("no interval"),
    mark(
        "even the smallest cut that was tried loses more than {limit} of {metric} on the "
        "{split} split, or could not be measured"
    ),
    mark("{value} point of {metric}"),
    mark("{value} points of {metric}"),
    mark("{value} of {metric}, in its own unit"),
    mark(
        "{share} % of the distance between the model's {metric} ({before}) and that of "
        "{answer} ({naive}): {value}"
    ),
    mark("{share} % of the model's {metric} ({before}): {value}"),
    mark("McNemar, score"),
    mark("paired permutation, {count} swaps"),
    mark("{now} of it, {then} then"),
    mark("its receipt does not say when it was made"),
    mark("the budget keeps {count} units but a mask has left only {left}"),
    mark("nothing more is removed"),
    mark("layer {layer} has only {count} units, fewer than the floor of {floor}"),
    mark("all are kept"),
    mark("layer {layer} keeps none of its {count} units"),
    mark("min_per_layer=1 would keep its best"),
    mark("it names no digest of its base, so the base was not checked"),
    mark("it was trained on another base model"),
    mark("{method}, {share} removed: {why}"),
    mark(
        "{inputs} of the data is in more than one split, so that what is measured is in "
        "part of rows that were learned or chosen on"
    ),
    mark(
        "{inputs} of the data are in more than one split, so that what is measured is in "
        "part of rows that were learned or chosen on"
    ),
    mark("split the data again without copies"),
    mark(
        "rows are nearly the same as rows of the training split ({shown}), so that what is "
        "measured is in part what was learned"
    ),
    mark("split by what rows have in common (a group)"),
    mark("{count} of {all} in {split}"),
    mark("each row begins with {token}, as the model's own tokenizer begins a text"),
    mark("it is read and never scored"),
    mark("keys of the data that say nothing here were passed over: {keys}"),
    mark("rename those that were meant"),
    mark("{count} of {all} repeat another one, the first {name}: keep one of each"),
    mark("errors are measured in standard deviations of the targets ({shown})"),
    mark("a tolerance that is absolute is read so too"),
    mark("the table was read with {sign} between cells, decimal point {point}"),
    mark("layer {layer}: {count} of {all} states have |λ̄| ≥ 1"),
    mark("they cannot be ranked and are kept"),
    mark(
        "layer {layer}: every state that can be ranked scores 0, so the layer may lose all of them"
    ),
    mark("measured on {count} different {noun}: intervals of so few say little"),
    mark("measured on {count} different {noun}: too few for an interval"),
    mark("give at least {count}"),
    mark("{noun}, the others are copies"),
    mark(
        "the data has no train split, so only methods that need none were tried: no "
        "State-OBS and no refits, which usually remove far more"
    ),
    mark(
        "intervals and thresholds were fitted before the model was changed and may not "
        "hold: fit them on labelled rows of today with --calibrate DATA"
    ),
    mark("row {row}: gradients at {count} points add up to {found}, and should to {wanted}"),
    mark("give more with --explain-points"),
    mark("no score: {why}"),
    mark("layer {layer}, channel {channel}: {what}"),
    mark("layer {layer}: {what}"),
    mark("its eigenvectors have condition {value}, more than {limit}"),
    mark("no stable reduced system has as few modes"),
    mark("its parameters cannot hold the reduced eigenvalues (they are clipped or rounded)"),
    mark("the states chosen stay, refitted, in place of a reduction"),
    mark(
        "singular perturbation adds a full direct part, of which the layer's diagonal D "
        "cannot take {share} (by energy)"
    ),
    mark(
        "B and C are divided by their root mean square over the states: with columns "
        "removed the mean is over fewer, and what stays changes, too, which no criterion "
        "counts"
    ),
    mark("{tensor} is left whole: {why}"),
    mark(
        "{layer}: two halves of the calibration text choose {what} differently (rank "
        "correlation {rank}, overlap {overlap}, both should reach {limit})"
    ),
    mark("give more samples"),
    mark(
        "{layer}: of what refits its output map only {share} holds on other rows, least of all "
        "layers, and no more is made of it"
    ),
    mark("{unit}: nothing is refitted, as there is a single row and no other to test a refit on"),
    mark("{unit} is cut by magnitude, a baseline: nothing was measured on data"),
    mark(
        "{count} tensors got no gradient in the proof, first {tensor}: the base model's "
        "own gets none either"
    ),
    mark("{layer} runs transformers' own code: {why}"),
    mark("{tensor} gets no gradient by its initialisation"),
    mark("{count} pruned numbers of {all} stay as they are"),
    mark("{what} (--missing {how} does it)"),
    mark("the first at {place}"),
    mark("no step"),
    mark(
        "{what} has {gaps} ({share}), the first at {name}, step {step}: the last value "
        "before is held"
    ),
    mark("{what} has {gaps} ({share}), the first at {place}: the last value before is held"),
    mark("{name} has columns that the model does not read: {columns}"),
    mark("{gaps} in time of more than {most} steps of {length}, the first of {size} after {place}"),
    mark("with --step {step} the steps between are filled"),
    mark("{count} more channels as well: {names}"),
    mark("{count} of {rows} without a label left out"),
    mark("{channels} over {steps}: if steps stand in columns, turn the table: a row is a step"),
    mark(
        "{channels} over {steps}: if steps come last in the file, swap its axes: "
        "(sequences, steps, channels) is what is read"
    ),
    mark("channel {channel} counts the steps: leave it out: --ignore {flag}"),
    mark("channel {channel} holds no value"),
    mark("channel {channel} is {value} at all {count} steps: leave it out"),
    mark("channel {channel} is a copy of {other}: leave one out"),
    mark(
        "channel {channel} is at its {end} value {value} at {steps}, the first at {place}: "
        "it may be cut off there"
    ),
    mark(
        "channel {channel} is far outside {low} to {high}, which training saw, at {steps}, "
        "the first {place}"
    ),
    mark(
        "channel {channel} says the label {label} itself, in {count} values: leave it out: "
        "--ignore {flag}"
    ),
    mark(
        "channel {channel} stands still for {count} steps from {place} on: a sensor that "
        "is off repeats its last value"
    ),
    mark("few recordings hold some labels ({labels}): each split needs its own"),
    mark("labels are as rare as 1:{ratio} ({labels}): accuracy says little"),
    mark("see balanced accuracy, and what always naming the most frequent one reaches"),
    mark(
        "steps last {low} to {high}, {middle} in the middle: a model reads how long each "
        "was (S5 as its Δ, others as a channel)"
    ),
    mark("--step {step} makes them even, --intervals even takes them so"),
    mark(
        "channels are in other units than in training ({channels}): values are taken as they stand"
    ),
    mark("steps last {step}, and training saw steps of {usual}: the model takes one for the other"),
    mark("bring them to the same, or train with --step {step}, which does it to new data as well"),
    mark(
        "sound of {rate} samples a second, and training heard {other}: what lies above {top} Hz "
        "is not in it"
    ),
    mark("there are labels that the model does not know ({labels}): it knows {classes}"),
    mark("rows with another are not scored"),
    mark("{file} has no column {name}, and nothing is scored"),
    mark(
        "{channel} is {value} at {steps}, far from all others: if it stands for a gap, "
        "leave these steps out or fill them in"
    ),
    mark(
        "{file} is no UTF-8 and was read as {encoding}: if names look wrong, convert it: "
        "iconv -f SHIFT_JIS -t UTF-8 {name}"
    ),
    mark(
        "{channel} lies between {low} and {high}, as times since 1970 do: if it is the "
        "time of a step, call its column time or drop it"
    ),
)
"""Sentences of verdicts and findings."""
PARTS = (
    mark("the time of {what}"),
    mark("one batch"),
    mark("one step"),
    mark("the state space part of it"),
    mark("state space part"),
    mark("peak memory of a batch"),
    mark("batch"),
    mark("step"),
    mark("{count} different"),
    mark("{count} step"),
    mark("{count} steps"),
    mark("{count} channel"),
    mark("{count} channels"),
    mark("{count} input"),
    mark("{count} inputs"),
    mark("{count} sequence"),
    mark("{count} sequences"),
    mark("{count} window"),
    mark("{count} windows"),
    mark("{count} row"),
    mark("{count} recording"),
    mark("{count} recordings"),
    mark("sequences"),
    mark("windows"),
    mark("train {count}"),
    mark("validation {count}"),
    mark("selection {count}"),
    mark("test {count}"),
    mark("train"),
    mark("validation"),
    mark("selection"),
    mark("test"),
    mark("absolute error"),
    mark("balanced accuracy"),
    mark("cross-entropy"),
    mark("bits per byte"),
    mark("label accuracy"),
    mark("quality"),
    mark("base"),
    mark("parity"),
    mark("gain"),
    mark("copies"),
    mark("own metric"),
    mark("recall"),
    mark("copy"),
    mark("associative"),
    mark("passkey"),
    mark("too much"),
    mark("{count} of {all}"),
    mark("{low} to {high}"),
    mark("states"),
    mark("row {row}"),
    mark("{count} gap"),
    mark("{count} gaps"),
    mark("{count} jump"),
    mark("{count} jumps"),
)
"""Numbers with their nouns, and names."""
CARDS = (
    mark("family"),
    mark("digest"),
    mark("channel"),
    mark("entry"),
    mark("entries"),
    mark("data"),
    mark("seed"),
    mark("machine"),
    mark("State space model"),
    mark("Pruned state space model"),
    mark("Merged state space model"),
    mark("{count} of {all} {unit} kept"),
    mark("{what}, by {method}"),
    mark("{range} a layer, {count} in all"),
    mark("{count} in all"),
    mark("class"),
    mark("width"),
    mark("width, layers"),
    mark("parameters"),
    mark("opens in stock code"),
    mark("made from"),
    mark("scratch"),
    mark("data sha256"),
    mark("splits"),
    mark("best epoch"),
    mark("how to retrain"),
    mark("cut entries"),
    mark("masked tensors"),
    mark("Tuned state space model"),
    mark("Mamba language model"),
    mark("keep {count} of {all} {unit} ({share} removed) by {method}"),
    mark("keep {count} of {all} {unit} ({share} removed)"),
    mark("{base}, tuned on {data} by {methods}, merged"),
    mark("model"),
    mark("trained on"),
    mark("sha256 of it"),
    mark("seen"),
    mark("measured on"),
    mark("sha256 of all its splits"),
    mark("perplexity per token"),
    mark("time in training steps"),
    mark("not known"),
    mark("not measured: the data has no such split"),
)
"""What the card of a model says of itself."""
