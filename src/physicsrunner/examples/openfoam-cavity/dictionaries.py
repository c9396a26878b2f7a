"""The dictionaries of the OpenFOAM case, made from its parameters."""

from __future__ import annotations

from pathlib import Path

_CONTROL = """
application     icoFoam;
startFrom       startTime;
startTime       0;
stopAt          endTime;
endTime         {end_time:g};
deltaT          {step:.10g};
writeControl    runTime;
writeInterval   {write_interval:g};
writeFormat     ascii;
writePrecision  10;
timePrecision   8;
runTimeModifiable false;
"""

_SCHEMES = """
ddtSchemes           { default Euler; }
gradSchemes          { default Gauss linear; }
divSchemes           { default none; div(phi,U) Gauss linear; }
laplacianSchemes     { default Gauss linear orthogonal; }
interpolationSchemes { default linear; }
snGradSchemes        { default orthogonal; }
"""

_SOLUTION = """
solvers
{
    p      { solver PCG; preconditioner DIC; tolerance 1e-7; relTol 0.02; }
    pFinal { $p; relTol 0; }
    U      { solver smoothSolver; smoother symGaussSeidel; tolerance 1e-8; relTol 0; }
}
PISO { nCorrectors 2; nNonOrthogonalCorrectors 0; pRefCell 0; pRefValue 0; }
"""

# The unit square, one cell thick; faces are named by their outward side.
_MESH = """
scale 1;
vertices
(
    (0 0 0) (1 0 0) (1 1 0) (0 1 0)
    (0 0 0.1) (1 0 0.1) (1 1 0.1) (0 1 0.1)
);
blocks ( hex (0 1 2 3 4 5 6 7) (%(cells)d %(cells)d 1) simpleGrading (1 1 1) );
edges ();
boundary
(
    lid   { type wall; faces ( (3 7 6 2) ); }
    walls { type wall; faces ( (0 4 7 3) (2 6 5 1) (1 5 4 0) ); }
    sides { type empty; faces ( (0 3 2 1) (4 5 6 7) ); }
);
mergePatchPairs ();
"""

_VELOCITY = """
dimensions    [0 1 -1 0 0 0 0];
internalField uniform (0 0 0);
boundaryField
{
    lid   { type fixedValue; value uniform (1 0 0); }
    walls { type noSlip; }
    sides { type empty; }
}
"""

_PRESSURE = """
dimensions    [0 2 -2 0 0 0 0];
internalField uniform 0;
boundaryField
{
    lid   { type zeroGradient; }
    walls { type zeroGradient; }
    sides { type empty; }
}
"""


def write_case(case: Path, reynolds: float, cells: int, courant: float, end_time: float) -> None:
    """
    Write an icoFoam case into the folder *case*.

    The cavity has width 1 and its lid speed 1, so the viscosity is 1 / *reynolds* and time counts
    in widths per lid speed.
    """
    # An end that is a whole number of steps is hit exactly.
    steps = max(1, round(end_time * cells / courant))
    control = _CONTROL.format(
        end_time=end_time, step=end_time / steps, write_interval=end_time / 4.0
    )
    viscosity = f"\nnu [0 2 -1 0 0 0 0] {1.0 / reynolds:.10g};\n"
    _write(case / "system", "controlDict", control)
    _write(case / "system", "fvSchemes", _SCHEMES)
    _write(case / "system", "fvSolution", _SOLUTION)
    _write(case / "system", "blockMeshDict", _MESH % {"cells": cells})
    _write(case / "constant", "transportProperties", viscosity)
    _write(case / "0", "U", _VELOCITY, kind="volVectorField")
    _write(case / "0", "p", _PRESSURE, kind="volScalarField")


def _write(folder: Path, name: str, body: str, kind: str = "dictionary") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    header = f"FoamFile {{ version 2.0; format ascii; class {kind}; object {name}; }}\n"
    (folder / name).write_text(header + body)
