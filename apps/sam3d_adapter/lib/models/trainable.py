"""Which parameters fine-tuning trains; everything else is the frozen base that all tasks of one size share."""

from torch import nn

from lib.models.sam3d import Sam3dAdapter


def trained_names(model: Sam3dAdapter) -> set[str]:
    """Full names of the trained parameters.

    Inside the image encoder each module declares its own in a class attribute ``trained``; prompt encoder and mask
    decoder are new in 3-D and train as a whole.

    Raises:
        AttributeError: A module declares a parameter it does not have.
    """
    names = {
        f"{part}.{name}"
        for part in ("prompt_encoder", "mask_decoder")
        for name, _ in model.get_submodule(part).named_parameters()
    }
    for prefix, module in model.image_encoder.named_modules(prefix="image_encoder"):
        for name in getattr(module, "trained", ()):
            if not isinstance(module.get_parameter(name), nn.Parameter):
                raise AttributeError(f"{prefix} declares '{name}' trained but it is no parameter.")
            names.add(f"{prefix}.{name}")
    return names


def interaction_names(model: Sam3dAdapter) -> set[str]:
    """Of the trained parameters, those that the published model lacks: signed clicks, previous answer, box.

    All of them start at zero, where they change nothing.
    """
    prefixes = ("prompt_encoder.background_embed", "mask_decoder.background_maps.", "mask_decoder.corrections.")
    return {name for name in trained_names(model) if name.startswith(prefixes)}


def frozen_names(model: Sam3dAdapter) -> set[str]:
    """Full names of the parameters that stay as SAM has them."""
    return {name for name, _ in model.named_parameters()} - trained_names(model)


def mark_trainable(model: Sam3dAdapter) -> int:
    """Set ``requires_grad`` on the trained set alone; return how many numbers it holds."""
    trained = trained_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in trained
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
