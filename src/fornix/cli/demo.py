"""``fornix demo``: the shipped network reads the shipped pictures of handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

    from fornix.cli.console import Page

SIDE = 16
"""Columns that a picture takes, and pixels of each side once it is enlarged."""

GAP = 3
"""Columns between pictures."""

ASCII_SHADES = " .:-=+*#%@"
"""Characters by the ink they put on paper, for output without colours."""

PLAIN_COLUMNS = 80
"""Width of the drawing where there is no terminal that has one."""

REPEATS = 20
"""Runs of which the fastest is timed: the others met a busy machine."""


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def demo_command(*, as_json: bool) -> None:
    """Let a small network read handwritten digits.

    The network, a convolutional one trained on scikit-learn's digits, and the pictures, which it
    has not seen in training, come with fornix. Each picture is drawn with what the network reads,
    how sure it is, and what is right where that differs.
    """
    from fornix.cli.console import Page, echo_json, time_text

    images, labels = pictures()
    probability, seconds = classify(images)
    readings = [
        {
            "label": int(label),
            "prediction": int(row.argmax()),
            "probability": float(row.max()),
            "correct": bool(row.argmax() == label),
        }
        for label, row in zip(labels, probability, strict=True)
    ]
    right = sum(bool(reading["correct"]) for reading in readings)
    if as_json:
        echo_json(
            {
                "accuracy": right / len(readings),
                "seconds_per_picture": seconds / len(readings),
                "pictures": readings,
            }
        )
        return
    page = Page()
    for row in rows(images, readings, page):
        page.print(row)
    page.say(
        f"{right} of {len(readings)} right,",
        f"{time_text(seconds / len(readings))} per picture ({len(readings)} at once)",
    )


def pictures() -> tuple[Any, Any]:
    """The shipped pictures, float32[N, 1, 8, 8] from 0 to 1, and what they show."""
    from importlib.resources import files

    import numpy as np

    with (
        files("fornix").joinpath("demo", "digits.npz").open("rb") as file,
        np.load(file) as arrays,
    ):
        return arrays["image"], arrays["label"]


def classify(images: Any) -> tuple[Any, float]:
    """The probability of each digit, float32[N, 10], and the time of one run, in seconds."""
    from importlib.resources import files
    from time import perf_counter

    from fornix.runtime import InferenceSession

    session = InferenceSession(files("fornix").joinpath("demo", "digits.onnx").read_bytes())
    times = []
    for _ in range(REPEATS):
        begin = perf_counter()
        (probability,) = session.run(["probability"], {"image": images})
        times.append(perf_counter() - begin)
    return probability, min(times)


def rows(images: Any, readings: Sequence[dict[str, Any]], page: Page) -> Iterator[Text]:
    """The pictures with their captions, as many side by side as the page is wide."""
    from rich.text import Text

    columns = page.width if page.is_terminal else PLAIN_COLUMNS
    across = max(1, (columns + GAP) // (SIDE + GAP))
    for start in range(0, len(images), across):
        drawn = [draw(image[0], page) for image in images[start : start + across]]
        captions = [caption(reading) for reading in readings[start : start + across]]
        for lines in (*zip(*drawn, strict=True), captions):
            yield Text(" " * GAP).join(lines)
        yield Text()


def caption(reading: dict[str, Any]) -> Text:
    """What the network reads and how sure it is, as wide as a picture."""
    from rich.text import Text

    shown = f"{reading['prediction']}  {reading['probability']:.1%}"
    if reading["correct"]:
        return Text(shown.ljust(SIDE), "green")
    return Text(f"{shown} not {reading['label']}".ljust(SIDE), "bold red")


def draw(image: Any, page: Page) -> list[Text]:
    """The picture as lines of text: grey half blocks on a terminal, else characters."""
    from rich.text import Text

    if not (page.is_terminal and page.has_blocks and page.color_system):
        shades = (image * (len(ASCII_SHADES) - 1)).round().astype(int)
        wide = SIDE // image.shape[1]
        return [Text("".join(ASCII_SHADES[shade] * wide for shade in row)) for row in shades]
    pixels = (enlarged(image) * 255).round().astype(int)
    return [half_blocks(*pair) for pair in zip(pixels[::2], pixels[1::2], strict=True)]


def half_blocks(upper: Any, lower: Any) -> Text:
    """Two rows of pixels from 0 to 255 as one line: the upper is ink, the lower is ground."""
    from rich.text import Text

    line = Text()
    for top, bottom in zip(upper, lower, strict=True):
        line.append("▀", f"rgb({top},{top},{top}) on rgb({bottom},{bottom},{bottom})")
    return line


def enlarged(image: Any) -> Any:
    """``image`` with `SIDE` pixels to each side, interpolated linearly between centres."""
    import numpy as np

    for axis in (0, 1):
        side = image.shape[axis]
        centre = (np.arange(SIDE) + 0.5) * side / SIDE - 0.5
        low = np.clip(np.floor(centre).astype(int), 0, side - 1)
        high = np.clip(low + 1, 0, side - 1)
        part = np.clip(centre - low, 0, 1).reshape([-1, 1] if axis == 0 else [1, -1])
        image = image.take(low, axis) * (1 - part) + image.take(high, axis) * part
    return image
