"""Each party's images, read where they lie."""

import math


def image_folder_builder(batch_size):
    def dataset_builder(folder, stage="train"):
        from torch.utils.data import DataLoader
        from torchvision import datasets, transforms

        transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
        dataset = datasets.ImageFolder(f"{folder}/{stage}", transform=transform)
        loader = DataLoader(dataset, batch_size=batch_size, shuffle=stage == "train")
        return loader, math.ceil(len(dataset) / batch_size)

    return dataset_builder
