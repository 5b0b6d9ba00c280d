"""Image folders: nothing is resized, recoloured or skipped unless asked, and every refusal says how to ask."""

import numpy as np
import pytest
import torch
from PIL import Image

from driftlaw.data import ImageFolder, as_source, build
from driftlaw.errors import ConfigError, DataNotFoundError, InputError
from driftlaw.seeding import generator, numpy_generator


def picture(seed=0, width=6, height=4, mode="RGB"):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(numpy_generator(seed, "picture").integers(0, 256, shape, dtype=np.uint8), mode)


@pytest.fixture
def folder(tmp_path):
    for i, suffix in enumerate(["png", "PNG", "bmp", "png", "bmp", "png", "png", "png"]):
        picture(i).save(tmp_path / f"{i}.{suffix}")
    return tmp_path


def test_pixels_come_back_exactly(folder):
    source = ImageFolder(folder, held_out=2)
    assert (source.shape, source.size, source.held_out_size, source.classes) == ((3, 4, 6), 6, 2, None)
    train = source.rows(torch.arange(6)).x
    held = source.held_out(2, generator(0, "h")).x
    assert train.dtype == torch.float32
    found = {x.tobytes() for x in source.restore(torch.cat([train, held])).round().byte().numpy()}
    assert found == {np.asarray(picture(i)).transpose(2, 0, 1).tobytes() for i in range(8)}
    assert source._values.dtype == np.uint8


def test_the_lossy_formats_are_read_too(tmp_path):
    for i in range(4):
        Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / f"{i}.{'jpg' if i % 2 else 'webp'}", quality=95)
    source = as_source(tmp_path)
    expected = torch.tensor([200.0, 100.0, 50.0])[:, None, None].expand(3, 8, 8)
    assert (source.restore(source.draw(3, generator(0, "d")).x) - expected).abs().max() <= 8


def test_class_folders_become_labels(tmp_path):
    for name, value in (("cats", 10), ("dogs", 200)):
        (tmp_path / name / "deeper").mkdir(parents=True)
        for i in range(3):
            Image.new("L", (4, 4), value).save(tmp_path / name / ("deeper" if i else "") / f"{i}.png")
    (tmp_path / ".thumbnails").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / ".thumbnails" / "0.png")
    (tmp_path / "._0.png").write_bytes(b"resource fork")
    source = as_source(str(tmp_path))
    assert source.classes == ("cats", "dogs")
    assert source.shape == (1, 4, 4)
    batch = source.draw(source.size, generator(0, "d"))
    assert torch.equal(batch.y, (batch.x[:, 0, 0, 0] > 0).long())
    picture(0, 4, 4, "L").save(tmp_path / "loose.png")
    with pytest.raises(InputError, match=r"6 images in class folders, 1 beside them: loose.png"):
        as_source(tmp_path)


def test_round_trip(folder):
    source = ImageFolder(folder, size=3, mode="L", skip_bad=True, held_out=3, seed=4)
    rebuilt = build(source.config())
    assert rebuilt.config() == source.config()
    assert torch.equal(rebuilt.rows(torch.arange(5)).x, source.rows(torch.arange(5)).x)
    assert source.shape == (1, 3, 3)


def test_mixed_sizes_name_two_files_and_the_remedy(folder):
    picture(9, 7, 4).save(folder / "z.png")
    with pytest.raises(InputError, match=r"different sizes: 0.png is 6x4, z.png is 7x4.*size: N"):
        ImageFolder(folder)
    assert ImageFolder(folder, size=4).shape == (3, 4, 4)


def test_resizing_keeps_the_centre_square(tmp_path):
    pixels = np.zeros((4, 12), dtype=np.uint8)
    pixels[:, 4:8] = 255
    for i in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    assert ImageFolder(tmp_path, size=2).draw(1, generator(0, "d")).x.min() > 0.8, "squeezed, the mean would be -1/3"


def test_grey_mixed_with_colour_gives_counts_and_the_remedy(folder):
    for i in range(3):
        picture(i, mode="L").save(folder / f"grey{i}.png")
    with pytest.raises(InputError, match=r"3 grey and 8 RGB images.*mode: L or mode: RGB"):
        ImageFolder(folder)
    assert ImageFolder(folder, mode="L").shape == (1, 4, 6)
    assert ImageFolder(folder, mode="RGB").shape == (3, 4, 6)


def test_unreadable_images_are_named_or_counted(folder):
    (folder / "text.png").write_text("not an image")
    big = picture(20, 60, 40)
    big.save(folder / "full.png")
    (folder / "cut.png").write_bytes((folder / "full.png").read_bytes()[:4000])
    (folder / "full.png").unlink()
    for name in ("cut.png", "text.png"):
        (folder / "only").mkdir()
        (folder / "only" / name).write_bytes((folder / name).read_bytes())
        with pytest.raises(InputError, match=rf"{name} cannot be read .*skip_bad: true"):
            ImageFolder(folder / "only", size=4)
        (folder / "only" / name).unlink()
        (folder / "only").rmdir()
    source = ImageFolder(folder, size=4, skip_bad=True)
    assert set(source.skipped) == {"text.png", "cut.png"}
    assert source.size + source.held_out_size == 8
    assert source.warnings[0].startswith("2 of 10 images")
    for path in list(folder.iterdir()):
        if path.name != "text.png":
            path.unlink()
    with pytest.raises(InputError, match="none of the 1 images"):
        ImageFolder(folder, skip_bad=True)


def test_alpha_is_dropped_with_a_warning_and_deep_images_are_refused(folder):
    picture(30, mode="RGBA").save(folder / "clear.png")
    assert "1 of 9 images" in ImageFolder(folder).warnings[0]
    Image.fromarray(np.zeros((4, 6), dtype=np.uint16)).save(folder / "deep.png")
    with pytest.raises(InputError, match=r"deep.png has mode I(;16)?, more than 8 bits"):
        ImageFolder(folder, mode="L")


def test_a_turned_photograph_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, 6, 4).save(tmp_path / "turned.png", exif=exif)
    picture(2, 4, 6).save(tmp_path / "upright.png")
    assert ImageFolder(tmp_path).shape == (3, 6, 4)


def test_empty_missing_and_single(tmp_path):
    with pytest.raises(InputError, match=r"holds no images.*\.png"):
        ImageFolder(tmp_path)
    with pytest.raises(DataNotFoundError, match="there is no folder"):
        ImageFolder(tmp_path / "nowhere")
    picture().save(tmp_path / "0.png")
    with pytest.raises(InputError, match="has 1 row; at least 2"):
        ImageFolder(tmp_path)


def test_bad_settings(folder):
    with pytest.raises(ConfigError, match="positive number of pixels"):
        ImageFolder(folder, size=0)
    with pytest.raises(ConfigError, match=r"Use L \(grey\) or RGB"):
        ImageFolder(folder, mode="CMYK")
