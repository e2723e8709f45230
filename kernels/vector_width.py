"""The vector width of the processor that code is compiled on."""


def widest_lanes(scalar: str) -> str:
    """C++: LANES, how many numbers the widest vector of the processor holds."""
    size = 4 if scalar == "float" else 8
    return f"""
#if defined(__AVX512F__)
    enum {{ LANES = {64 // size} }};
#elif defined(__AVX__)
    enum {{ LANES = {32 // size} }};
#else
    enum {{ LANES = {16 // size} }};
#endif"""
