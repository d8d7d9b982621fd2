"""How fast models really are: dense, pruned and masked, in several runtimes, timed in turns."""

from psvit.bench.records import BENCH_VERSION as BENCH_VERSION
from psvit.bench.records import Bench as Bench
from psvit.bench.records import Row as Row
from psvit.bench.run import Subject as Subject
from psvit.bench.run import bench as bench
from psvit.bench.run import check_bench as check_bench
from psvit.bench.runtimes import RUNTIMES as RUNTIMES
from psvit.bench.runtimes import usable_runtimes as usable_runtimes
