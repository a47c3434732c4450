"""Options of a user's own data, and of what is asked in place of a task's words."""

from __future__ import annotations

import cloup

from allocator.cli.values import Words, completing, listed
from allocator.core.plugins import available

METRICS = available("evals.metrics")

metric = cloup.option(
    "--metric",
    shell_complete=completing(METRICS),
    metavar="exact",
    help=f"Of own data: {listed(METRICS)}.  [default: by the answers]",
)
columns = cloup.option(
    "--columns",
    type=Words(),
    metavar="question=prompt,answers=label",
    help="Which columns of own data hold what.  [default: by their names]",
)
prompt = cloup.option(
    "--prompt",
    metavar="'Question: {question} Answer briefly.'",
    help="What is asked, in the chat template if there is one.  [default: the task's]",
)
max_new_tokens = cloup.option(
    "--max-new-tokens",
    type=int,
    metavar="32",
    help="Longest reply.  [default: the task's]",
)
skip_broken = cloup.option(
    "--skip-broken",
    is_flag=True,
    default=None,
    help="Leave out at most 1 % of own data whose pictures cannot be read.",
)
own_options = (metric, columns, prompt, max_new_tokens, skip_broken)
