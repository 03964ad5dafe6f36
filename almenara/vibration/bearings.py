"""Rolling-element bearings and the frequencies at which their faults show, as multiples of the shaft frequency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from almenara.errors import InputError


@dataclass(frozen=True)
class Bearing:
    """A bearing with a fixed outer ring and its fault orders (fault frequency over shaft frequency).

    Attributes:
        designation: the maker's or the test rig's name of it.
        bpfi: ball pass order of the inner race.
        bpfo: ball pass order of the outer race.
        bsf: ball spin order; a spall on a ball strikes both races, so its line is at twice this.
        ftf: fundamental train order, the speed of the cage.
    """

    designation: str
    bpfi: float
    bpfo: float
    bsf: float
    ftf: float

    def __post_init__(self) -> None:
        orders = (self.bpfi, self.bpfo, self.bsf, self.ftf)
        finite = all(math.isfinite(order) for order in orders)
        if not (finite and 0 < self.ftf < 0.5 and self.bsf > 0 and 0 < self.bpfo < self.bpfi):
            raise InputError(
                "bearing-geometry",
                f"Bearing {self.designation}: the orders BPFI {self.bpfi:g}, BPFO {self.bpfo:g}, BSF {self.bsf:g} and "
                f"FTF {self.ftf:g} belong to no bearing with a fixed outer ring.",
                "Orders are multiples of the shaft frequency: 0 < FTF < 0.5, 0 < BSF, 0 < BPFO < BPFI.",
            )

    @classmethod
    def from_geometry(
        cls,
        balls: int,
        ball_diameter: float,
        pitch_diameter: float,
        contact_angle_deg: float = 0.0,
        designation: str = "custom",
    ) -> Self:
        """Bearing with a fixed outer ring and pure rolling (Randall and Antoni, "Rolling element bearing
        diagnostics: a tutorial", MSSP 25, 2011, equations 1 to 4).

        Args:
            balls: number of rolling elements, at least 3.
            ball_diameter: any unit of length.
            pitch_diameter: in the same unit.
            contact_angle_deg: 0 to below 90.

        Raises:
            InputError: no such bearing can be built.

        >>> round(Bearing.from_geometry(9, 7.94, 39.04).bpfi, 3)
        5.415
        """
        # Neighbouring balls touch when their diameter reaches the chord between their centres.
        chord = pitch_diameter * math.sin(math.pi / max(balls, 3))
        fits = balls >= 3 and 0 < ball_diameter < chord < math.inf
        if not (fits and 0 <= contact_angle_deg < 90):
            raise InputError(
                "bearing-geometry",
                f"No bearing has {balls} balls of diameter {ball_diameter:g} on a pitch diameter of "
                f"{pitch_diameter:g} at a contact angle of {contact_angle_deg:g} degrees.",
                "Give at least 3 balls that fit on the pitch circle, both diameters in one unit, an angle of 0 to 90.",
            )
        ratio = ball_diameter / pitch_diameter * math.cos(math.radians(contact_angle_deg))
        return cls(
            designation=designation,
            bpfi=balls / 2 * (1 + ratio),
            bpfo=balls / 2 * (1 - ratio),
            bsf=pitch_diameter / (2 * ball_diameter) * (1 - ratio**2),
            ftf=(1 - ratio) / 2,
        )


def bearing(designation: str) -> Bearing:
    """The bearing of that designation, in any case.

    Raises:
        InputError: `unknown-bearing`; the remedy lists the known ones.
    """
    known = {name.casefold(): entry for name, entry in BEARINGS.items()}
    found = known.get(designation.strip().casefold())
    if found is None:
        raise InputError(
            "unknown-bearing",
            f"There is no bearing {designation!r} in the table.",
            f"Known: {', '.join(BEARINGS)}. Or describe it by its geometry.",
        )
    return found


BEARINGS: dict[str, Bearing] = {
    entry.designation: entry
    for entry in (
        # Orders published with the Case Western Reserve University data (ball spin is given there as 2 x BSF).
        Bearing("6203-2RS", bpfi=4.9469, bpfo=3.0530, bsf=3.9874 / 2, ftf=0.3817),
        Bearing("6205-2RS", bpfi=5.4152, bpfo=3.5848, bsf=4.7135 / 2, ftf=0.39828),
        # Rexnord double-row bearing of the IMS run-to-failure data: inches, both rows have 16 rollers.
        Bearing.from_geometry(16, 0.331, 2.815, 15.17, "ZA-2115"),
        # Bearing of the MFPT fault data: inches.
        Bearing.from_geometry(8, 0.235, 1.245, 0.0, "NICE"),
        # Bearing of the PRONOSTIA platform (FEMTO run-to-failure data): millimetres.
        Bearing.from_geometry(13, 3.5, 25.6, 0.0, "PRONOSTIA"),
    )
}
"""Known bearings by designation."""
