"""The handwritten digits that the literature's experiments on images are made with.

Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits, 1998,
http://yann.lecun.com/exdb/mnist. 60000 images for training, and 10000 by other writers for testing.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.datamodules._idx import read_idx
from pcgen.datamodules._images import ImageDataModule, Images, require_classes
from pcgen.datamodules._splitted import check_not_negative
from pcgen.errors import ConfigurationError, DataError
from pcgen.io import download as fetch

__all__ = ["MNIST", "Images"]

Ints = NDArray[np.int64]

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}  # of the .gz files
LAYOUTS = (".", "MNIST/raw", "mnist", "raw")  # below the root; the second is torchvision's
DIGITS = tuple("0123456789")


class MNIST(ImageDataModule):
    """Handwritten digits: images (1, 28, 28) in [0, 1] of ten classes, 60000 for training and 10000 for testing.

    The four files are looked for in `root`, `root/MNIST/raw` (where torchvision puts them), `root/mnist` and
    `root/raw`, packed (`.gz`) or not. A share of the training images is held out for validation, digit by digit, by
    `split_seed` alone: reading some classes or all holds out the same images. Batches depend on (seed, epoch, process,
    batch) alone, so a resumed run repeats exactly what the first one would have done.

    Args:
        root: The folder in which the files are, or are to be.
        batch_size: Images of a batch, on each process.
        classes: Digits to keep, as words ("3"), labels in this order; None keeps all.
        download: Fetch the files (12 MB) to `root/MNIST/raw` where they are missing.
        urls: Folders on servers to fetch them from, tried in turn; None takes the known mirrors.
        validation: Share of the training images held out for validation. With 0 the validation split IS the test
            split: then select no checkpoint by it.
        split_seed: Decides what is held out.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest for images in memory.
        seed: Decides shuffling.
    """

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 64,
        classes: list[str] | None = None,
        download: bool = False,
        urls: list[str] | None = None,
        validation: float = 0.1,
        split_seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, drop_last=drop_last, num_workers=num_workers, seed=seed)
        if not 0 <= validation < 1:
            raise ConfigurationError(f"validation is {validation}; it is a share of the images, in [0, 1)")
        wrong = [c for c in classes or () if c not in DIGITS]
        if wrong or (classes is not None and (not classes or len(set(classes)) < len(classes))):
            raise ConfigurationError(f"classes is {classes}; give different digits as words, such as ['3', '8']")
        check_not_negative(split_seed=split_seed)
        self.root, self.classes = Path(root), classes
        self.download, self.urls = download, tuple(urls or MIRRORS)
        self.validation, self.split_seed = validation, split_seed
        self.sample_shape = (1, 28, 28)
        self.class_names = tuple(classes or DIGITS)

    # ── setup ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare_data(self) -> None:
        """Fetch what is missing, if asked to; Lightning calls this on one process alone.

        Raises:
            DataError: If a file is missing, with where it was looked for and what can be done, or no mirror has it.
        """
        for name in MD5:
            if self._find(name) is not None:
                continue
            if not self.download:
                raise DataError(
                    f"{name}(.gz) is not in {self.root}, nor in its {', '.join(LAYOUTS[1:])}: set download: true to "
                    "fetch MNIST, or root to the folder that holds it"
                )
            self._fetch(name)

    def load(self) -> dict[str, Images]:
        """Read and divide the images.

        Raises:
            DataError: If files are missing or damaged, a split lacks a class that was asked for, or nothing is
                held out.
        """
        train, test = self._read("train"), self._read("t10k")
        stay, held = _hold_out(train.digit, self.validation, self.split_seed)
        rows = {"train": (train, stay), "val": (train, held) if self.validation else (test, None), "test": (test, None)}
        splits = {name: self._select(images, chosen) for name, (images, chosen) in rows.items()}
        if self.classes is not None:
            require_classes(splits, self.class_names, str(self.root))
        if self.validation and not len(held):
            raise DataError(
                f"validation {self.validation} of {len(train)} images in {self.root} is none: raise it, or give 0 to "
                "validate on the test split"
            )
        return splits

    def _find(self, name: str) -> Path | None:
        places = [self.root / layout / f"{name}{suffix}" for layout in LAYOUTS for suffix in ("", ".gz")]
        return next((p for p in places if p.is_file()), None)

    def _fetch(self, name: str) -> None:
        target = self.root / "MNIST" / "raw" / f"{name}.gz"
        failed = []
        for url in self.urls:
            try:
                fetch(f"{url.rstrip('/')}/{name}.gz", target, md5=MD5[name])
            except DataError as error:
                failed.append(str(error))
            else:
                return
        raise DataError(f"no mirror gave {name}.gz: {'; '.join(failed)}")

    def _read(self, prefix: str) -> Images:
        files = [self._find(f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
        if files[0] is None or files[1] is None:
            self.prepare_data()
            return self._read(prefix)
        pixels, digit = read_idx(files[0], 3), read_idx(files[1], 1)
        if len(pixels) != len(digit) or pixels.shape[1:] != (28, 28) or (len(digit) and digit.max() > 9):
            raise DataError(
                f"{files[0]} holds images {pixels.shape} and {files[1]} {len(digit)} labels up to "
                f"{digit.max(initial=0)}: MNIST has as many of both, 28 × 28 pixels and ten digits"
            )
        return Images(pixels, digit.astype(np.int64))

    def _select(self, images: Images, rows: Ints | None) -> Images:
        rows = np.arange(len(images.digit)) if rows is None else rows
        wanted = np.array([int(c) for c in self.class_names])
        rows = rows[np.isin(images.digit[rows], wanted)]
        label = np.argsort(wanted)[np.searchsorted(np.sort(wanted), images.digit[rows])]
        return Images(images.pixels[rows], label)


def _hold_out(digit: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Divide rows into those that stay and those held out, digit by digit; both in ascending order."""
    held = []
    for k in np.unique(digit):
        members = np.flatnonzero(digit == k)
        count = int(share * len(members) + 0.5)
        held.append(np.random.default_rng([seed, int(k)]).permutation(members)[:count])
    out = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(digit)), out), out
