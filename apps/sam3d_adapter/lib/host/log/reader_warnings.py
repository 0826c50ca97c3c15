"""Patches: ITK prints warnings about images to the server's output, with the files' paths.

It does so beside Python's logging, from C++ (seen with itk 5.4 and SimpleITK 2.5, on NIfTI files whose two positions in
space differ and on series with missing slices); a viewer's user never sees them.
"""

import itk
import SimpleITK


def silence_readers() -> None:
    """Switches these warnings off for the process."""
    itk.Object.SetGlobalWarningDisplay(False)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
