"""The evaluation of a network in the benchmark's own process, made once and read again."""

from lib.evaluation.evaluate import Evaluation, evaluate
from lib.evaluation.ledger import read_records
from lib.evaluation.record import Record


def evaluated_records(evaluation: Evaluation) -> list[Record]:
    """Records of all cases, those of an earlier run where it is finished.

    Raises:
        SystemExit: A request failed. It would count as Dice 0, which is no figure of a network.
    """
    if not (evaluation.out / "summary.json").exists():
        evaluate(evaluation)
    records = read_records(evaluation.out)
    for record in records:
        if any(record["failed"]):
            raise SystemExit(
                f"{evaluation.out}: a request failed on {record['case']}: {record['error']} "
                "Mend the cause, delete the folder and give the command again."
            )
    return records
