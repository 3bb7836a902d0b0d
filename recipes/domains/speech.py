"""Spoken languages: clips of recorded telephone prompts in five languages, and by other voices.

``OUT/voices`` has English and Spanish by one speaker, French, Italian and Russian by one each;
``OUT/others`` Spanish, French and Italian by others, two of them through a telephone codec. Clips
are speech alone, a second to a second and a half, equally loud. A prompt ("the number is") is in
one split in all languages and voices.

    python recipes/domains/speech.py --out speech
    ssmith train recipes/domains/speech.json --out listener
    ssmith predict listener --data speech/others --out heard.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from found import CACHE, sounds_of, split_of
from numpy.typing import NDArray

VOICES = {
    "asterisk-core-sounds-en-wav": ("en_US_f_Allison", "english"),
    "asterisk-core-sounds-es-wav": ("es_MX_f_Allison", "spanish"),
    "asterisk-core-sounds-fr-wav": ("fr_CA_f_June", "french"),
    "asterisk-core-sounds-it-wav": ("it_IT_m_Carlo", "italian"),
    "asterisk-core-sounds-ru-wav": ("ru_RU_f_IvrvoiceRU", "russian"),
}
OTHERS = {
    "asterisk-prompt-es-co": ("es", "spanish"),
    "asterisk-prompt-fr-armelle": ("fr", "french"),
    "asterisk-prompt-it-menardi-wav": ("it_IT_f_Menardi", "italian"),
}
RATE, LONGEST, SHORTEST, MOST = 8000, 12000, 8000, 3
_FRAME, _QUIET, _LOUD = 160, 0.02, 0.1
"""Samples of a frame; what is quieter than this share of the loudest is no speech; loudness."""
_NO_SPEECH = ("silence", "beep", "tone", "monkeys")


def prompt(path: Path) -> NDArray[np.float64]:
    """Return the samples of a prompt, WAV or the plain GSM of telephone exchanges."""
    if path.suffix == ".gsm":
        plain = {"format": "RAW", "subtype": "GSM610", "samplerate": RATE, "channels": 1}
        return np.asarray(soundfile.read(path, **plain)[0])
    return np.asarray(soundfile.read(path)[0])


def clips(wave: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return stretches of speech without pauses, each equally loud."""
    frames = wave[: len(wave) // _FRAME * _FRAME].reshape(-1, _FRAME)
    energy = (frames**2).mean(1)
    spoken = frames[energy > _QUIET**2 * energy.max(initial=0.0)].ravel()
    cuts = [spoken[start : start + LONGEST] for start in range(0, len(spoken), LONGEST)]
    enough = [cut for cut in cuts[:MOST] if len(cut) >= SHORTEST]
    return [np.clip(cut * _LOUD / np.sqrt((cut**2).mean()), -1, 1) for cut in enough]


def write(out: Path, voices: dict[str, tuple[str, str]], cache: Path = CACHE) -> None:
    """Write clips and their table of labels."""
    out.mkdir(parents=True, exist_ok=True)
    folders = sounds_of({package: folder for package, (folder, _) in voices.items()}, cache)
    rows = ["file,label,group,split"]
    for package, (folder, language) in voices.items():
        root = folders[package]
        prompts = sorted(path for path in root.rglob("*") if path.suffix in (".wav", ".gsm"))
        for path in prompts:
            name = path.relative_to(root).with_suffix("").as_posix()
            if any(word in name for word in _NO_SPEECH):
                continue
            for place, clip in enumerate(clips(prompt(path))):
                file = f"{folder}-{name.replace('/', '-')}-{place}.wav"
                soundfile.write(out / file, clip, RATE)
                rows.append(f"{file},{language},{name},{split_of(name)}")
    (out / "labels.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    write(out / "voices", VOICES)
    write(out / "others", OTHERS)


if __name__ == "__main__":
    main()
