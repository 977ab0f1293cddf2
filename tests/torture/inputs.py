"""Random and mutated bytes at every reader: a clear error or a valid object, never anything else.

Runs in a process of its own with little memory to spare, so that an input that makes a reader take what it asks for is
noticed, and with an alarm over every input.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import yaml

from replication.errors import ReplicationError
from tests.archives import (
    CIFAR10_NAME,
    cifar10_batch,
    idx_archive,
    make_images,
    svhn_archive,
    tar_archive,
    write_archives,
)
from tests.tampering import renew_digests
from tests.torture.tally import Tally

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 10  # that one input may take
_ROOM = 1 << 30  # bytes of address space beyond what the process has at its start
_RESIDENT = 1 << 28  # bytes that one input may make it use in fact

Mutate = Callable[[bytes, random.Random], bytes]


class Hang(BaseException):
    """The alarm; not an Exception, so that no reader takes it for a parse error."""


@attrs.frozen
class Target:
    """A reader and valid inputs for it.

    Attributes:
        samples: what to begin from.
        read: reads the file given; raises ReplicationError, or AssertionError for a wrong acceptance.
        wrap: around the mutated bytes: compression, a digest, an archive, so that damage gets past the outer layers.
    """

    name: str
    samples: tuple[bytes, ...]
    read: Callable[[Path], object]
    wrap: Callable[[bytes], bytes] = lambda content: content
    mutate: Mutate | None = None
    suffix: str = ".bin"


# Mutations -------------------------------------------------------------------------------------------

_NUMBERS = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\0\0\0\x80",
    b"\xff" * 8,
    b"\0" * 8,
)


def mutate_bytes(content: bytes, generator: random.Random) -> bytes:
    """A few of: bits flipped, bytes replaced, inserted, removed, repeated, cut; rarely something else entirely."""
    if generator.random() < 0.03:
        return generator.randbytes(generator.randint(0, 2000))
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8))):
        # Headers are where the damage is; half of it goes there.
        end = min(len(data), 400) if generator.random() < 0.5 else len(data)
        at = generator.randrange(end) if end else 0
        size = generator.choice((1, 1, 2, 4, 8, 50, 1000))
        kind = generator.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at : at + size] = generator.randbytes(size)
        elif kind == 2:
            data[at:at] = generator.randbytes(size)
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = data[at : at + size]
        elif kind == 5:
            number = generator.choice(_NUMBERS)
            data[at : at + len(number)] = number
        elif kind == 6 and generator.random() < 0.3:
            del data[at:]
        else:
            other = generator.randrange(len(data) + 1)
            data[at : at + size] = data[other : other + size]
    return bytes(data)


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1e308, -0.0, float("nan"), float("inf"), "", "x", "\n", "\0",
    "é" * 40, "../../etc/passwd", [], {}, [0] * 50, [[]], {"a": {}}, "0" * 5000, 65536, 1000,
)  # fmt: skip


def mutate_tree(value: Any, generator: random.Random) -> Any:
    """Somewhere in a nest of mappings and lists: a value replaced, a key removed, renamed, added or put elsewhere."""
    if not isinstance(value, dict | list) or not value or generator.random() < 0.15:
        return generator.choice(_VALUES)
    if isinstance(value, list):
        changed = list(value)
        at = generator.randrange(len(changed))
        if generator.random() < 0.3:
            changed += changed[: generator.randint(0, len(changed))]
        else:
            changed[at] = mutate_tree(changed[at], generator)
        return changed
    key = generator.choice(list(value))
    kind = generator.random()
    if kind < 0.7:
        return value | {key: mutate_tree(value[key], generator)}
    rest = {name: item for name, item in value.items() if name != key}
    if kind < 0.8:
        return rest
    if kind < 0.9:
        return rest | {generator.choice(("x", "", "model", "budget", "é\n", "__class__")): value[key]}
    return value | {key: value[generator.choice(list(value))]}


def mutate_json(content: bytes, generator: random.Random) -> bytes:
    """Half of the time in its structure, else in its bytes."""
    if generator.random() < 0.3:
        return mutate_bytes(content, generator)
    return json.dumps(mutate_tree(json.loads(content), generator)).encode("utf-8", "surrogatepass")


_YAML_TOKENS = (
    b"!!bool ", b"!!float ''", b"!!int x", b"!!timestamp x", b"!!binary x", b"!!set ",
    b"!!python/object/apply:os.system ",
    b"&a ", b"*a", b"<<: *a", b"&a [*a, *a]", b"[", b"{", b"? ", b"- ", b"|\n", b"%YAML 9.9\n", b"---\n", b"\t", b"~",
    b".nan", b"1e999", b"0x", b"2026-13-45", b"'", b'"', b"#", b": ", b"!<tag:x> ", b"\xef\xbb\xbf", b"1:99:99",
)  # fmt: skip


def mutate_yaml(content: bytes, generator: random.Random) -> bytes:
    """In its structure, in its bytes, or with pieces of YAML's own grammar put in."""
    kind = generator.random()
    if kind < 0.4:
        return yaml.safe_dump(mutate_tree(yaml.safe_load(content), generator), allow_unicode=True).encode()
    if kind < 0.6:
        return mutate_bytes(content, generator)
    if kind < 0.62:  # a few lines that grow to gigabytes where every alias is written out
        lists = ["&a0 [x, x, x, x, x, x, x, x, x, x]"]
        lists += [f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
        grown, section = f": [{', '.join(lists)}]".encode(), generator.choice((b"seeds", b"datasets"))
        return re.sub(rb"(?m)^" + section + b":.*$", lambda _: section + grown, content)
    data = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(data) + 1)
        if generator.random() < 0.5:  # where a value begins
            at = data.find(b": ", at) + 2
        data[at:at] = generator.choice(_YAML_TOKENS)
    return bytes(data)


# Targets ---------------------------------------------------------------------------------------------


def targets(folder: Path) -> list[Target]:
    """Every reader of bytes that come from elsewhere or from an earlier process."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *_archive_targets(folder),
        *_prepared_targets(folder),
        *_run_targets(folder),
        *[_parameters_target()] * 3,
    ]


def _archive_targets(folder: Path) -> Iterator[Target]:
    from replication.datasets import archives

    write_archives(folder / "archives", train=20, test=10)
    generator = np.random.default_rng(0)
    images, labels = make_images(20, (3, 32, 32), generator)
    cifar = (folder / "archives/cifar10" / CIFAR10_NAME).read_bytes()
    yield Target("cifar10", (cifar,), archives.read_cifar10)
    compress = _level_1
    yield Target("cifar10 tar", (gzip.decompress(cifar),), archives.read_cifar10, compress)
    batch = cifar10_batch("data_batch_1", images[:3], labels[:3])
    good = cifar10_batch("x", images[3:6], labels[3:6])
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]

    def around(content: bytes) -> bytes:
        batches = {name: content if name == "data_batch_1" else good for name in names}
        return tar_archive({f"cifar-10-batches-py/{name}": batch for name, batch in batches.items()})

    yield Target("cifar10 pickle", (batch, _python3_pickle(images[:3], labels[:3])), archives.read_cifar10, around)
    digits = make_images(20, (1, 28, 28), generator)
    pixels, classes = idx_archive(digits[0][:, 0]), idx_archive(digits[1].astype(np.uint8))
    other = {"images": folder / "images.gz", "labels": folder / "labels.gz"}
    other["images"].write_bytes(pixels)
    other["labels"].write_bytes(classes)
    yield Target("mnist images", (pixels,), lambda path: archives.read_mnist(path, other["labels"]))
    yield Target(
        "mnist idx", (gzip.decompress(pixels),), lambda path: archives.read_mnist(path, other["labels"]), compress
    )
    yield Target(
        "mnist labels", (gzip.decompress(classes),), lambda path: archives.read_mnist(other["images"], path), compress
    )
    plain = io.BytesIO()
    import scipy.io

    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy.io.savemat(plain, {"X": images.transpose(2, 3, 1, 0), "y": y}, do_compression=False)
    yield Target("svhn", (svhn_archive(images, labels),), archives.read_svhn, suffix=".mat")
    yield Target("svhn plain", (plain.getvalue(),), archives.read_svhn, suffix=".mat")


def _level_1(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1)


def _python3_pickle(images: Any, labels: Any) -> bytes:
    import pickle

    batch = {"data": images.reshape(len(images), -1), "labels": [int(label) for label in labels]}
    return pickle.dumps(batch, protocol=2)


def _prepared_targets(folder: Path) -> Iterator[Target]:
    from replication.config import load_experiment
    from replication.datasets.prepare import prepare
    from replication.datasets.prepared import load_prepared

    path = folder / "digits.safetensors"
    known = prepare("digits", load_experiment("digits", ROOT / "params.yaml").data, folder / "raw", path).content_hash

    def read(file: Path) -> object:
        dataset = load_prepared(file, name="digits")
        assert dataset.content_hash == known, "accepted data that is not what was prepared"
        return dataset

    content = path.read_bytes()
    yield Target("prepared", (content,), read, suffix=".safetensors")
    yield Target("prepared header", (content,), read, mutate=_mutate_header, suffix=".safetensors")


def _mutate_header(content: bytes, generator: random.Random) -> bytes:
    """The JSON header of a safetensors file, its length kept right."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(mutate_tree(json.loads(content[8 : 8 + size]), generator)).encode("utf-8", "surrogatepass")
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _run_targets(folder: Path) -> Iterator[Target]:
    import torch
    from safetensors.torch import save

    from replication.config import load_experiment
    from replication.files import read_csv, write_json
    from replication.models import build_network
    from replication.tracking.records import all_points, read_run
    from replication.training.checkpoint import Checkpoints, Snapshot
    from replication.training.runs import load_model, model_description

    torch.set_num_threads(1)
    experiment = load_experiment("digits", ROOT / "params.yaml")
    params = attrs.evolve(experiment.model, blocks=3, width=2)
    network = build_network(params, (1, 8, 8), 10, seed=0)
    description = {
        "schema": 1,
        "dataset": "digits",
        "method": "e2e",
        "seed": 0,
        "budget": 0.1,
        "reading": "released",
        "config": experiment.as_dict(),
        "model": model_description(params, (1, 8, 8), 10),
        "data": {"content_hash": "ab" * 32, "official": True, "sources": []},
        "git": {"commit": "c" * 40, "dirty": False},
        "gradient_updates": 300,
        "blocks": 3,
        "parameters": 100,
        "started": "2026-01-01T00:00:00+00:00",
        "wall_seconds": 9.5,
    }
    run = folder / "run"
    run.mkdir(exist_ok=True)
    header = b"gradient_updates,block,train_accuracy\n"
    parts = {
        "model.safetensors": save(network.state_dict()),
        "history.csv": header + b"0,,0.5\n100,1,0.75\n",
        "rounds.csv": b"block,module,cumulative_updates,edge\n0,stem,50,0.125\n1,block1,100,0.25\n",
        "timing.csv": b"gradient_updates,block,seconds,peak_memory_bytes\n0,,0.5,1000\n100,1,1.5,2000\n",
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    parts["run.json"] = json.dumps(description | {"sha256": digests}).encode()

    def read_with(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
        def with_the_others(file: Path) -> object:
            for other, content in parts.items():
                (run / other).write_bytes(file.read_bytes() if other == name else content)
            if name != "run.json":  # or the digests alone would find it
                renew_digests(run)
            return read(run)

        return with_the_others

    def points(path: Path) -> object:
        return list(all_points(path, read_run(path)))

    yield Target("run.json", (parts["run.json"],), read_with("run.json", load_model), mutate=mutate_json)
    yield Target("run.json, tracked", (parts["run.json"],), read_with("run.json", points), mutate=mutate_json)
    yield Target("history.csv", (parts["history.csv"],), read_with("history.csv", points))
    yield Target("rounds.csv", (parts["rounds.csv"],), read_with("rounds.csv", points))
    yield Target("csv", (parts["timing.csv"],), read_csv)
    weights = (parts["model.safetensors"],)
    yield Target("weights", weights, read_with("model.safetensors", load_model))
    yield Target("weights header", weights, read_with("model.safetensors", load_model), mutate=_mutate_header)
    write_json(folder / "metrics.json", {"test_accuracy": 0.5})

    scratch = folder / "scratch"
    checkpoints = Checkpoints(scratch, attrs.evolve(experiment.checkpoint, updates=1))
    tensors = {"network/w": torch.arange(40.0), "batches/order": torch.arange(30, dtype=torch.uint8)}
    checkpoints.visit(1, lambda: Snapshot(tensors, {"progress": {"done": 3}, "rows": [{"a": 0.1}]}), end_of_block=True)
    (written,) = scratch.glob("*.checkpoint")
    content = written.read_bytes()
    older = folder / "scratch-read"
    older.mkdir(exist_ok=True)

    def resume(file: Path) -> object:
        """The damaged one is newest; the older one is whole, and it or something true must come back."""
        (older / "000000000001.checkpoint").write_bytes(content)
        (older / "000000000002.checkpoint").write_bytes(file.read_bytes())
        with contextlib.redirect_stderr(io.StringIO()):
            found = Checkpoints(older, experiment.checkpoint).load()
        assert isinstance(found, Snapshot), "the older checkpoint was not used"
        return found

    def exact(file: Path) -> object:
        found = resume(file)
        assert isinstance(found, Snapshot) and found.values == {"progress": {"done": 3}, "rows": [{"a": 0.1}]}
        assert all(torch.equal(tensor, found.tensors[name]) for name, tensor in tensors.items()), "another state"
        return found

    def signed(body: bytes) -> bytes:
        return hashlib.sha256(body).hexdigest().encode() + body

    yield Target("checkpoint", (content,), exact)
    yield Target("checkpoint, digest right", (content[64:],), resume, signed)
    yield Target("checkpoint header", (content[64:],), resume, signed, mutate=_mutate_header)


def _parameters_target() -> Target:
    from replication.config import Experiment, experiment_from_dict, load_experiment, load_lists

    def read(path: Path) -> object:
        lists: object = None
        with contextlib.suppress(ReplicationError):
            lists = load_lists(path)
        experiment = load_experiment("digits", path)
        assert isinstance(experiment, Experiment) and experiment_from_dict(experiment.as_dict()) == experiment
        return lists

    return Target("params.yaml", ((ROOT / "params.yaml").read_bytes(),), read, mutate=mutate_yaml, suffix=".yaml")


# The run ---------------------------------------------------------------------------------------------


def run_inputs(inputs: int, seed: int) -> Tally:
    """`inputs` bad inputs over all readers in turn, in a process with little memory to spare."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    reached = context.Value("q", -1)
    process = context.Process(target=_work, args=(sender, reached, inputs, seed))
    process.start()
    sender.close()
    try:
        tally: Tally = receiver.recv()
    except EOFError:
        process.join()
        text = f"input {reached.value} of seed {seed} ended the process that reads them (code {process.exitcode})"
        tally = Tally("bad inputs", inputs, [text], inputs)
    process.join()
    return tally


def _work(sender: Any, reached: Any, inputs: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sender.send(_torture(Path(folder), reached, inputs, seed))


def _torture(folder: Path, reached: Any, inputs: int, seed: int) -> Tally:
    tally, generator = Tally("bad inputs"), random.Random(seed)
    readers = targets(folder / "samples")
    for target in readers:  # what is tortured below is read when it is whole
        for sample in target.samples:
            _read(target, target.wrap(sample), folder)
    gc.collect()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, hard))
    signal.signal(signal.SIGALRM, _alarm)
    for number in range(inputs):
        target = readers[number % len(readers)]
        sample = generator.choice(target.samples)
        damaged = target.wrap((target.mutate or mutate_bytes)(sample, generator))
        tally.blow(target.name)
        reached.value = number
        before = _peak()
        problem = _judge(target, damaged, folder)
        if _peak() > before + _RESIDENT:
            problem = f"takes {(_peak() - before) >> 20} MiB"
        if problem:
            tally.problem(f"{target.name}, input {number} of seed {seed}: {problem}")
    return tally


def _alarm(_number: int, _frame: object) -> None:
    raise Hang


def _judge(target: Target, content: bytes, folder: Path) -> str | None:
    signal.alarm(_SECONDS)
    try:
        _read(target, content, folder)
    except ReplicationError as error:
        text = str(error)
        return f"an unclear error: {text!r:.200}" if "\n" in text or not text else None
    except Hang:
        return f"takes more than {_SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.200}"
    finally:
        signal.alarm(0)
    return None


def _peak() -> int:
    """Most memory that was ever resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(target: Target, content: bytes, folder: Path) -> None:
    path = folder / f"input{os.getpid()}{target.suffix}"
    path.write_bytes(content)
    target.read(path)
