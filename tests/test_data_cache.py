"""The pixel cache: what is found again, what is built again, and who may build and remove."""

import errno
import gc
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors.numpy import load_file

from limner import data
from limner.commands.data import cache as command
from limner.data import cache, decoding, stored, workers
from limner.data import entry as entry_files
from limner.data.dataset import SPLITS
from limner.errors import InputError

PICTURES = np.random.RandomState(0).randint(0, 256, (40, 6, 5)).astype(np.uint8)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    """A folder whose files are older than the clock's tick."""
    path = tmp_path / "pictures"
    path.mkdir()
    for k, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(path / f"{k:03}.png")
    while path.stat().st_mtime + 0.06 > time.time():
        pass
    return path


@pytest.fixture
def reads(monkeypatch):
    """What decoders in this process were asked to do."""
    done = []
    answer = decoding.Decoder.answer

    def counted(self, doing, start, names):
        done.extend([doing] * len(names))
        return answer(self, doing, start, names)

    monkeypatch.setattr(decoding.Decoder, "answer", counted)
    return done


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def check(dataset):
    """That every image is the one of its file."""
    for images in map(dataset.split, SPLITS):
        for levels, name in zip(images.levels, images.names, strict=True):
            assert np.array_equal(levels[0], PICTURES[int(name[-7:-4])])


def entry():
    return next(cache.folder().glob("*.safetensors"))


def test_the_second_start_reads_no_file_and_a_copy_is_found_by_content(pictures, reads, tmp_path):
    first = load(pictures)
    check(first)
    assert reads.count("decode") == 41  # the first also for its size
    reads.clear()
    again = load(pictures)
    assert reads == []
    assert all(torch.equal(first.split(s).levels, again.split(s).levels) for s in SPLITS)
    assert again.train.names == first.train.names
    assert again.found == first.found
    shutil.copytree(pictures, tmp_path / "copy")
    check(load(tmp_path / "copy"))
    assert set(reads) == {"digest"}
    assert len(cache.entries()) == 1


def test_changed_files_and_settings_are_read_again(pictures, reads):
    before = load(pictures)
    state = (pictures / "003.png").stat()
    Image.fromarray(255 - PICTURES[3]).save(pictures / "003.png")
    os.utime(pictures / "003.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    reads.clear()
    after = load(pictures)
    assert reads.count("decode") == 41
    where = next(after.split(s) for s in SPLITS if "003.png" in after.split(s).names)
    changed = where.levels[where.names.index("003.png"), 0]
    assert np.array_equal(changed, 255 - PICTURES[3])
    for setting in ({"colour": "rgb"}, {"size": 4}, {"draw_seed": 1}, {"range": (0, 300)}):
        reads.clear()
        assert (load(pictures, **setting).image_shape != before.image_shape) == (
            "colour" in setting or "size" in setting
        )
        assert "decode" in reads


def test_an_entry_is_a_sound_safetensors_file_whose_rows_are_mapped(pictures):
    dataset = load(pictures)
    tensors = load_file(entry())
    found = np.concatenate([dataset.split(s).levels.numpy() for s in SPLITS])
    assert np.array_equal(tensors["levels"], found)
    dataset.train.levels[0] = 7
    assert np.array_equal(load_file(entry())["levels"], found)
    check(load(pictures))
    assert dataset.train.levels.data_ptr() % 4096 == 0


@pytest.mark.parametrize("where", ["header", "pixels", "labels", "end", "cut", "empty", "longer"])
def test_a_damaged_entry_is_built_again(pictures, where, capsys):
    load(pictures)
    content = bytearray(entry().read_bytes())
    place = {"header": 60, "pixels": 4096 + 100, "labels": 4096 + 40 * 30 + 8, "end": -3}
    if where in place:
        content[place[where]] ^= 1
    else:
        content = {"cut": content[:-5], "empty": b"", "longer": content + b"1"}[where]
    damaged = entry()
    damaged.write_bytes(content)
    check(load(pictures))
    assert "damaged" in capsys.readouterr().err
    assert len(load_file(entry())["levels"]) == 40


def test_large_entries_are_verified_by_a_sample(pictures, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 64)
    monkeypatch.setattr(entry_files, "BLOCK", 64)
    monkeypatch.setattr(entry_files, "CHECKED", 512)
    load(pictures)
    with entry().open("r+b") as file:
        file.seek(4096)
        file.write(bytes(1200))
    check(load(pictures))


def test_an_interrupted_build_leaves_nothing_that_is_used(pictures, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    for module, name in ((stored, "row_digests"), (os, "fsync")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                load(pictures)
        assert [path.name for path in cache.folder().iterdir()] == ["locks"]
    (cache.folder() / ".0123.draft").write_bytes(b"left by a process that was killed")
    check(load(pictures))
    assert not list(cache.folder().glob(".*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_one_sentence(pictures, monkeypatch, number):
    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be stored.*XDG_CACHE_HOME"):
        load(pictures)
    monkeypatch.undo()


CODE = """
import sys
from limner import data
from limner.data import decoding
decode = decoding.Decoder.answer
def counted(self, doing, start, names):
    print(doing, flush=True)
    return decode(self, doing, start, names)
decoding.Decoder.answer = counted
dataset = data.load(data.DataConfig(name=sys.argv[1]))
print(*dataset.test.names)
"""


def test_of_two_processes_one_decodes_while_the_other_waits(pictures):
    runs = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CODE, str(pictures)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=120)[0].split("\n") for run in runs]
    assert outputs[0][-2] == outputs[1][-2] != ""
    assert sum("decode" in output for output in outputs) == 1
    assert [run.returncode for run in runs] == [0, 0]


def test_several_processes_decode_what_one_does(pictures, monkeypatch):
    alone = load(pictures)
    names = alone.train.names
    cache.remove(cache.entries()[0].key)
    monkeypatch.setattr(workers, "FEW", 3)
    monkeypatch.setattr(workers, "AT_ONCE", 7)
    monkeypatch.setattr(workers, "_cores", lambda: 2)
    shared = load(pictures, draw_seed=0, skip_damaged=True)
    check(shared)
    assert shared.train.names == names
    assert _children() == []


def test_a_decoder_that_crashes_is_named_and_the_others_go_on(pictures, monkeypatch):
    monkeypatch.setattr(workers, "FEW", 3)
    monkeypatch.setattr(workers, "_cores", lambda: 2)
    code = workers.CODE.replace("serve()", CRASH)
    monkeypatch.setattr(workers, "CODE", code)
    with pytest.raises(InputError, match=r"1 damaged: 017\.png \(its decoder crashed\)"):
        load(pictures)
    assert _children() == []


CRASH = """
import os
from limner.data import decoding
read = decoding.Decoder.opened
def crash(self, name):
    if "017" in name:
        os._exit(1)
    return read(self, name)
decoding.Decoder.opened = crash
serve()
"""


def _children():
    import psutil

    return [child.pid for child in psutil.Process().children() if "decoding" in str(child.cmdline)]


def test_workers_import_neither_torch_nor_pydantic():
    code = "import sys, limner.data.decoding; print({'torch', 'pydantic'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_command_lists_and_clears_what_no_process_uses(pictures, tmp_path, capsys):
    dataset = load(pictures)
    command()
    assert "40 x 1 x 6 x 5" in capsys.readouterr().out
    command(clear=True)
    assert "Kept" in capsys.readouterr().out
    check(dataset)
    del dataset
    with pytest.raises(InputError, match="no entry 'elsewhere'"):
        command(("elsewhere",), clear=True)
    command((str(pictures),), clear=True)
    assert "Removed" in capsys.readouterr().out
    assert cache.entries() == []
    assert list((cache.folder() / "known").iterdir()) == []
    assert not list((cache.folder() / "locks").glob("*.use"))
    entry_of_text = cache.folder() / "abcd.safetensors"
    entry_of_text.write_text("no entry")
    command()
    assert "damaged" in capsys.readouterr().out
    command(clear=True)
    assert not entry_of_text.exists()


def test_rows_of_arrays_are_stored_by_split():
    rows = np.random.RandomState(1).randint(0, 256, (90, 3, 4, 4)).astype(np.uint8)
    read = []

    def blocks(images):
        for block in np.array_split(images, 4):
            read.append(len(block))
            yield block, block

    def load(seed=0):
        given = {
            "train": stored.Rows(60, blocks(rows[:60]), np.arange(60)),
            "test": stored.Rows(30, blocks(rows[60:]), np.arange(60, 90)),
        }
        return stored.stored(["a.npy", 1], "a.npy", (3, 4, 4), given, seed, tuple("ab"))

    source = load()
    again = load()
    assert sum(read) == 90
    assert again.class_names == ("a", "b")
    assert torch.equal(source.test.levels, torch.from_numpy(rows[60:]))
    both = torch.cat([source.train.labels, source.validation.labels])
    assert both.sort().values.tolist() == list(range(60))
    for images in (source.train, source.validation, again.test):
        assert np.array_equal(images.levels, rows[images.labels])
    assert load(seed=1).validation.labels.tolist() != source.validation.labels.tolist()


def test_a_draft_is_read_in_bounded_memory(tmp_path, monkeypatch):
    """A sparse file of 4 GiB, of which 1,000 rows of 1 MiB are wanted."""
    import psutil

    path = tmp_path / "draft"
    path.touch()
    os.truncate(path, 2**32)
    draft = stored.Draft(path, (1, 2**10, 2**10), 2**12)
    before, most = psutil.Process().memory_info().rss, 0
    for block in draft.blocks(np.arange(0, 2**12, 4)):
        most = max(most, psutil.Process().memory_info().rss)
        assert block.shape[1:] == (1, 2**10, 2**10)
    assert most - before < 2**27


def test_cached_paths_are_where_the_user_says():
    assert cache.folder() == Path(os.environ["XDG_CACHE_HOME"]) / "limner" / "pixels"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"x" * 32, b"../a", b"0" * 33])
def test_a_damaged_alias_is_as_none_and_is_cleared(content, pictures):
    load(pictures)
    aliases = list((cache.folder() / "known").iterdir())
    for alias in aliases:
        alias.write_bytes(content)
    check(load(pictures))
    (cache.folder() / "known" / "other").write_bytes(content)
    gc.collect()
    assert cache.remove(cache.entries()[0].key)
    assert not list((cache.folder() / "known").iterdir())


def test_an_alias_that_another_process_removes_is_no_error(pictures, monkeypatch):
    load(pictures)
    gc.collect()
    read = Path.read_bytes

    def gone(path):
        path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    monkeypatch.setattr(Path, "read_text", gone)
    assert cache.remove(cache.entries()[0].key)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_an_entry_is_used_where_nothing_can_be_written(number, pictures, monkeypatch):
    load(pictures)
    gc.collect()

    def refused(*args, **more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(FileLock, "acquire", refused)
    check(load(pictures))
    assert len(cache.entries()) == 1


def test_the_list_removes_what_killed_processes_left(pictures, capsys):
    load(pictures)
    left = [cache.folder() / f".{name}" for name in ("a.draft", "b.partial")]
    for path in left:
        path.write_bytes(b"left")
    used = cache.folder() / ".c.draft"
    used.write_bytes(b"used")
    lock = FileLock(cache.folder() / "locks" / "c.draft")
    with lock:
        command()
    assert "MiB in" in capsys.readouterr().out
    assert [path.exists() for path in (*left, used)] == [False, False, True]
