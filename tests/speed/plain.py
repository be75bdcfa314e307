"""The notebooks' plain way to train: PIL transforms by torchvision, a DataLoader, torch.nn and torch.optim in fp32.

  python tests/speed/plain.py PACKED --spec JSON --out FILE

trains a run that way on a packed dataset, with one thread, and writes for each epoch the mean of the batches'
losses and the accuracy on the test images. `training.py` times it; `equivalence.py` compares what it reaches.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests/unit")]


class Plain:
    """A model in training the notebooks' way, on `images (N, S, S, 3) uint8` and their labels."""

    def __init__(self, spec, images, labels, device):
        import reference
        import torch
        from torchvision import transforms

        recipe, size = spec["recipe"], spec["dataset"]["image_size"]
        chosen = recipe["augmentation"]
        steps = (
            [transforms.RandomCrop(size, padding=chosen["crop_padding"])] if chosen["crop_padding"] else []
        )
        steps.append(transforms.RandomHorizontalFlip(chosen["horizontal_flip"]))
        if chosen["rotation"]:
            steps.append(transforms.RandomRotation(chosen["rotation"]))
        if chosen["translation"]:
            steps.append(transforms.RandomAffine(0, translate=(chosen["translation"],) * 2))
        self.scale = [transforms.ToTensor(), transforms.Normalize(**recipe["normalization"])]
        # The first notebook's CIFAR has no workers, its Tiny ImageNet four, the second notebook two.
        workers = 2 if recipe["name"] == "adamw10" else 4 if size == 64 else 0
        self.device, self.batch_size = device, recipe["batch_size"]
        self.loader = self.load(images, labels, [*steps, *self.scale], shuffle=True, workers=workers)
        self.model = reference.create(spec["model"]["name"], size, spec["dataset"]["num_classes"]).to(device)
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe["optimizer"]]
        self.optimizer = optimizer(
            self.model.parameters(), lr=recipe["lr"], weight_decay=recipe["weight_decay"]
        )
        self.criterion = torch.nn.CrossEntropyLoss()

    def load(self, images, labels, steps, shuffle, workers=0):
        """Return a DataLoader of the images, each transformed by `steps`."""
        from PIL import Image
        from torch.utils.data import DataLoader, Dataset
        from torchvision import transforms

        pictures, transform = [Image.fromarray(image) for image in images], transforms.Compose(steps)

        class Pictures(Dataset):
            def __len__(self):
                return len(pictures)

            def __getitem__(self, index):
                return transform(pictures[index]), int(labels[index])

        # A timed pass is a fraction of an epoch: the start of the workers is no part of it.
        return DataLoader(
            Pictures(), self.batch_size, shuffle, num_workers=workers, persistent_workers=workers > 0
        )

    def train(self):
        """Train one pass over the images; return the mean of the batches' losses."""
        self.model.train()
        total = 0.0
        for images, labels in self.loader:
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader)

    def evaluate(self, images, labels):
        """Return the percentage of the images that are classified correctly."""
        import torch

        self.model.eval()
        with torch.no_grad():
            hits = sum(
                int((self.model(images.to(self.device)).argmax(1).cpu() == labels).sum())
                for images, labels in self.load(images, labels, self.scale, shuffle=False)
            )
        return 100 * hits / len(images)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a packed dataset")
    parser.add_argument(
        "--spec", type=json.loads, required=True, help="a run's spec, as vitcnn.plan.run_spec"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()

    import torch

    from vitcnn.data.packed import load_packed
    from vitcnn.training.loop import split_rows

    torch.set_num_threads(1)
    torch.manual_seed(args.spec["seed"])
    packed = load_packed(args.data)
    rows, _ = split_rows(args.spec, packed)
    train = packed.train.images[rows].transpose(0, 2, 3, 1), packed.train.labels[rows]
    test = packed.test.images.transpose(0, 2, 3, 1), packed.test.labels
    plain, history = Plain(args.spec, *train, torch.device("cpu")), []
    for epoch in range(1, args.spec["recipe"]["epochs"] + 1):
        loss = plain.train()
        history.append({"epoch": epoch, "train_loss": loss, "test_accuracy": plain.evaluate(*test)})
    args.out.write_text(json.dumps({"history": history}))


if __name__ == "__main__":
    main()
