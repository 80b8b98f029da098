"""rq's basic flow on the kevy at the port that is named."""
import sys

import redis
import rq
from rq.job import JobStatus

import jobs


def main(port):
    connection = redis.Redis(port=port)
    queue = rq.Queue("work", connection=connection)
    sums = [queue.enqueue(jobs.add, n, n) for n in range(20)]
    fails = queue.enqueue(jobs.fail)
    after = queue.enqueue(jobs.add, 1, 1, depends_on=sums[0])
    off = queue.enqueue(jobs.add, 0, 0)
    off.cancel()
    assert len(queue) == 21, len(queue)
    rq.SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    assert [job.return_value(refresh=True) for job in sums] == [2 * n for n in range(20)]
    assert after.return_value(refresh=True) == 2
    assert fails.get_status(refresh=True) == JobStatus.FAILED and "on purpose" in fails.latest_result().exc_string
    assert off.get_status(refresh=True) == JobStatus.CANCELED
    assert len(queue) == 0 and fails.id in queue.failed_job_registry
    assert queue.finished_job_registry.count == 21
    print("22 jobs: 21 done, one failed on purpose")


if __name__ == "__main__":
    main(int(sys.argv[1]))
