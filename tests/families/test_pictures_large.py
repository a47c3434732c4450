"""The largest pictures that Pillow reads, and the memory that they take."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
# its square is just below Pillow's 178,956,970 pixels
SIDE = 13_377
READ = """
import sys
from pathlib import Path
from allocator.families import read_image
image = read_image(Path(sys.argv[1]), upright=True)
told = Path("/proc/self/status").read_text()
print(*image.size, *image.getpixel((0, 0)), told.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the most memory")
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_the_largest_picture_takes_a_gigabyte_and_no_more(
    form: str, tmp_path: Path
) -> None:
    mode, colour = ("RGBA", (255, 0, 0, 128)) if form == "PNG" else ("RGB", (9, 9, 9))
    file = tmp_path / "large"
    Image.new(mode, (SIDE, SIDE), colour).save(file, form)
    told = subprocess.run(
        [sys.executable, "-c", READ, str(file)], capture_output=True, check=True
    )
    width, height, red, green, _, kilobytes = map(int, told.stdout.split())
    # half of 13,377, and a pixel for what is left over
    assert (width, height) == (6689, 6689)
    assert (red, green) == ((255, 127) if form == "PNG" else (9, 9))
    # in Pillow 4 bytes a pixel, whole and halved (JPEG: halved as it is read)
    assert kilobytes < (1_150_000 if form == "PNG" else 650_000)
