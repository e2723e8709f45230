"""What the fixed-time signals of road networks show.

A signal governs ways, each from a lane into one of the next segment; its line is at the lane's end.
A way's colours are a table over the cycle. In a step shows what is due before its end, as in SUMO,
whose switches come at the start of the step in which they are due.

Who is held by a line (`network.held_by_light`) is discrete: it carries no gradient, and neither
does the switch. Whoever is held drives as towards a standing vehicle, which is differentiable
(`network_drive`).
"""

import warp as wp

GREEN = wp.constant(0)
YELLOW = wp.constant(1)
RED = wp.constant(2)


@wp.func
def phase_of(
    way: wp.int32,
    step: wp.int64,
    seconds: wp.float64,  # a step [s]
    light_cycle: wp.array(dtype=wp.float64),
    light_offset: wp.array(dtype=wp.float64),
    light_start: wp.array(dtype=wp.int32),
    light_until: wp.array(dtype=wp.float64),
):
    """The phase of a way after so many steps, among those of all."""
    # A microsecond stands for the rounding of sums.
    end = wp.float64(step + wp.int64(1)) * seconds
    due = end - light_offset[way] - wp.float64(1.0e-6)
    cycle = light_cycle[way]
    at = due - cycle * wp.floor(due / cycle)
    phase = light_start[way]
    while phase + 1 < light_start[way + 1] and light_until[phase] <= at:
        phase += 1
    return phase


@wp.kernel(enable_backward=False)
def show_lights(
    # In:
    clock_in: wp.array(dtype=wp.int64),  # [num_networks] steps so far
    ahead: wp.int32,  # steps: 1 for the step that begins now
    seconds: wp.float64,  # a step [s]
    # Tables:
    light_cycle: wp.array(dtype=wp.float64),  # [num_ways] [s]
    light_offset: wp.array(dtype=wp.float64),  # when the first phase begins [s]
    light_start: wp.array(dtype=wp.int32),  # [num_ways + 1], of the phases of a way:
    light_until: wp.array(dtype=wp.float64),  # its end in the cycle [s]
    light_colour: wp.array(dtype=wp.int32),
    # Out:
    light_out: wp.array2d(dtype=wp.int32),  # [num_networks, num_ways] GREEN, YELLOW or RED
):
    """One thread a way of a network."""
    network, way = wp.tid()
    phase = phase_of(
        way, clock_in[network] + wp.int64(ahead), seconds,
        light_cycle, light_offset, light_start, light_until,
    )  # fmt: skip
    light_out[network, way] = light_colour[phase]
