"""Patches: an image never has the checksum that is asked for, and one of an unknown kind is status 500.

``HEAD /datastore/image?check_sum=SHA256:...`` of MONAI Label 0.8.5 cuts the name of the algorithm, and digits that are
in it, from what was asked for and compares the rest with a text that begins with that name
(``monailabel/endpoints/datastore.py:143``). We know of no upstream issue.
"""

from fastapi import HTTPException
from monailabel.utils.others.generic import file_checksum

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short

_ALGORITHMS = ("SHA256", "SHA512", "MD5")


def require_checksum(file: str, check_sum: str) -> None:
    """Passes if a file has that checksum.

    Args:
        file: path.
        check_sum: in hexadecimal digits, behind the algorithm and a colon; SHA256 where none is named.

    Raises:
        HTTPException: 422 for an unknown algorithm, 404 for another checksum.
    """
    check_host_version(__name__)
    algorithm, _, digits = check_sum.rpartition(":")
    algorithm = algorithm or _ALGORITHMS[0]
    if algorithm not in _ALGORITHMS:
        raise HTTPException(422, f"check_sum names {short(algorithm)}; one of {', '.join(_ALGORITHMS)} is expected.")
    if file_checksum(file, algo=algorithm) != f"{algorithm}:{digits.lower()}":
        raise HTTPException(404, "The image here has another checksum. Send the image again under another id.")
