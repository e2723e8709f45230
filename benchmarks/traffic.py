"""Vehicle updates per second of one core: TrafficSim, and SUMO where libsumo is installed.

    python benchmarks/traffic.py [seconds per figure]

The machine should be idle; figures are of CPU time, and the best of five rounds.
"""

import sys

from gippo.studies.traffic_bench import measure_sumo, measure_traffic


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print("| | roads | lanes | vehicles a road | ms a step | ns a vehicle | M updates/s |")
    print("|---|---|---|---|---|---|---|")
    for measure in (measure_traffic, measure_sumo):
        for m in measure(seconds):
            sizes = f"{m.num_roads:,} | {m.num_lanes} | {m.num_vehicles:,}"
            per_vehicle = 1e9 / m.updates_per_second
            print(
                f"| {m.what} | {sizes} | {1e3 * m.seconds_per_step:.4g} | {per_vehicle:.1f} | "
                f"{m.updates_per_second / 1e6:.3g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
