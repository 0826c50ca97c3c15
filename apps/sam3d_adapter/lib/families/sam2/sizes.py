"""The sizes of SAM 2: which configuration of the `sam2` package, which changes to it, and which published file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

APACHE = "Apache-2.0"


@dataclass(frozen=True)
class Published:
    """A checkpoint that its authors publish.

    Attributes:
        file: its name.
        url: where it is.
        licence: under which they publish it.
    """

    file: str
    url: str
    licence: str = APACHE


@dataclass(frozen=True)
class Size:
    """One size of the network.

    Attributes:
        config: file below ``configs/`` of the package.
        changes: dotted keys of its ``model`` section, and their values.
        published: weights that fit it; none for the one that is trained here.
        peak_lr: learning rate of fine-tuning; MedSAM2's own for published weights.
    """

    config: str
    changes: Mapping[str, object] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    peak_lr: float = 5e-5

    @property
    def pixels(self) -> int:
        """Side of the square that a slice is resized to."""
        return int(str(self.changes.get("image_size", 1024)))


def square(pixels: int) -> dict[str, object]:
    """Another side of the square that a slice is resized to; positions are counted in steps of 16 pixels."""
    steps = [pixels // 16] * 2
    layer = "memory_attention.layer"
    return {
        "image_size": pixels,
        f"{layer}.self_attention.feat_sizes": steps,
        f"{layer}.cross_attention.feat_sizes": steps,
    }


def _width(channels: int, memory: int) -> dict[str, object]:
    """Another number of channels: of the features, and of what is remembered of a slice."""
    layer = "memory_attention.layer"
    return {
        "image_encoder.neck.d_model": channels,
        "image_encoder.neck.position_encoding.num_pos_feats": channels,
        "memory_attention.d_model": channels,
        f"{layer}.d_model": channels,
        f"{layer}.dim_feedforward": 4 * channels,
        f"{layer}.self_attention.embedding_dim": channels,
        f"{layer}.cross_attention.embedding_dim": channels,
        f"{layer}.cross_attention.kv_in_dim": memory,
        "memory_encoder.in_dim": channels,
        "memory_encoder.out_dim": memory,
        "memory_encoder.position_encoding.num_pos_feats": memory,
        "memory_encoder.mask_downsampler.embed_dim": channels,
        "memory_encoder.fuser.layer.dim": channels,
    }


def _meta(name: str) -> Published:
    return Published(
        f"sam2.1_hiera_{name}.pt", f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_{name}.pt"
    )


_MEDSAM2 = Published("MedSAM2_latest.pt", "https://huggingface.co/wanglab/MedSAM2/resolve/main/MedSAM2_latest.pt")

SIZES: dict[str, Size] = {
    "tiny": Size("sam2.1/sam2.1_hiera_t.yaml", published=(_meta("tiny"),)),
    "small": Size("sam2.1/sam2.1_hiera_s.yaml", published=(_meta("small"),)),
    "base_plus": Size("sam2.1/sam2.1_hiera_b+.yaml", published=(_meta("base_plus"),)),
    "large": Size("sam2.1/sam2.1_hiera_l.yaml", published=(_meta("large"),)),
    # MedSAM2 (arXiv 2504.03600) is `tiny`, trained further on slices of 512 pixels.
    "tiny_512": Size("sam2.1/sam2.1_hiera_t.yaml", square(512), published=(_MEDSAM2,)),
    "micro": Size(
        "sam2.1/sam2.1_hiera_t.yaml",
        {
            **square(256),
            **_width(64, 16),
            "image_encoder.trunk.embed_dim": 24,
            "image_encoder.trunk.stages": [1, 1, 2, 1],
            "image_encoder.trunk.global_att_blocks": [3],
            "image_encoder.neck.backbone_channel_list": [192, 96, 48, 24],
            "memory_attention.num_layers": 2,
        },
        peak_lr=1e-3,
    ),
}
"""By the name that a preset gives. `micro` is for machines without a GPU and is trained by this project."""
