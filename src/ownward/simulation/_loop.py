"""The loop of one replica: plain Python over flat sequences, so that one source runs as it is and compiled.

Rules of a step, in this order: (1) sequences that decode take a block where
their last one is full; where none is left, the last admitted is preempted;
(2) a prompt that is being prefilled goes on; (3) waiting prompts enter, unless one was preempted, while batch, budget
and blocks allow, the first that does not fit stopping all; (4) time passes;
(5) tokens come out. Steps without prefill between two events are taken at once.
DESIGN.md beside this file says why it is exact.
"""

# ruff: noqa: PLR0915, PLR0917, C901 - one loop over flat arrays is what the compiler wants
from __future__ import annotations

from typing import Any

# Slots of `state`: counters that several functions change.
FREE = 0  # blocks that hold nothing
IDLE_UNITS = 1  # prefix units resident and used by nobody, which may be evicted
WAITING = 2  # size of the waiting heap
FINISHING = 3  # size of the heap of finishing steps
RUNNING = 4  # sequences admitted
HEAD = 5  # first admitted sequence, -1 for none
TAIL = 6  # last admitted sequence
DECODING = 7  # sequences that decode
CONTEXT = 8  # their cached tokens, summed
STEP = 9  # index of the step
PREEMPTIONS = 10
SLOTS = 11

# Rows of `requests` (each a sequence over requests).
INPUT, OUTPUT, KEY, GENERATED, TOTAL, PROGRESS, JOINED, LENGTH, LAST, UNITS = range(10)
BEFORE, AFTER, PREEMPTED, CACHED, REUSED = range(10, 15)
ROWS = 15

# Rows of `units` (each a sequence over prefix units, one more for the list's end).
USERS, RESIDENT, OLDER, NEWER = range(4)
UNIT_ROWS = 4

SAME_TIME_S = 1e-9  # an arrival this close to a step's start is at it


def push(keys: Any, items: Any, size: int, key: int, item: int) -> None:
    """Add to a binary heap ordered by (key, item)."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if keys[up] < key or (keys[up] == key and items[up] < item):
            break
        keys[at] = keys[up]
        items[at] = items[up]
        at = up
    keys[at] = key
    items[at] = item


def sink(keys: Any, items: Any, size: int, at: int, key: int, item: int) -> None:
    """Put an entry at `at` or below it."""
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        right = down + 1
        if right < size and (keys[right] < keys[down] or (keys[right] == keys[down] and items[right] < items[down])):
            down = right
        if key < keys[down] or (key == keys[down] and item < items[down]):
            break
        keys[at] = keys[down]
        items[at] = items[down]
        at = down
    keys[at] = key
    items[at] = item


def pop(keys: Any, items: Any, size: int) -> None:
    """Remove the least of a binary heap of `size`."""
    sink(keys, items, size - 1, 0, keys[size - 1], items[size - 1])


def discard(keys: Any, items: Any, size: int, item: int) -> None:
    """Remove an item that is in a binary heap of `size`."""
    at = 0
    while items[at] != item:
        at += 1
    last = size - 1
    if at == last:
        return
    key, moved = keys[last], items[last]
    up = (at - 1) >> 1
    if at > 0 and (key < keys[up] or (key == keys[up] and moved < items[up])):
        push(keys, items, at, key, moved)
    else:
        sink(keys, items, last, at, key, moved)


def unlink(requests: Any, state: Any, one: int) -> None:
    """Take a sequence out of the list of the admitted."""
    before, after = requests[BEFORE][one], requests[AFTER][one]
    if before >= 0:
        requests[AFTER][before] = after
    else:
        state[HEAD] = after
    if after >= 0:
        requests[BEFORE][after] = before
    else:
        state[TAIL] = before
    state[RUNNING] -= 1


def use_unit(units: Any, state: Any, unit: int) -> None:
    """Count one more user of a resident unit, which keeps it from eviction."""
    if units[USERS][unit] == 0:
        older, newer = units[OLDER][unit], units[NEWER][unit]
        units[NEWER][older] = newer
        units[OLDER][newer] = older
        state[IDLE_UNITS] -= 1
    units[USERS][unit] += 1


def take_blocks(units: Any, state: Any, count: int, unit_blocks: int, end: int) -> None:
    """Take blocks, evicting the least recently used units where too few are free; the caller knows they suffice."""
    while state[FREE] < count:
        unit = units[NEWER][end]
        newer = units[NEWER][unit]
        units[NEWER][end] = newer
        units[OLDER][newer] = end
        units[RESIDENT][unit] = 0
        state[IDLE_UNITS] -= 1
        state[FREE] += unit_blocks
    state[FREE] -= count


def release(
    requests: Any, units: Any, offsets: Any, blocks: Any, state: Any, one: int, held: int, unit_blocks: int, end: int
) -> None:
    """Give back the `held` blocks of a sequence; its prefix units stay resident, the first ones to be evicted last."""
    count = requests[UNITS][one]
    state[FREE] += held - count * unit_blocks
    for index in range(count - 1, -1, -1):
        unit = blocks[offsets[one] + index]
        units[USERS][unit] -= 1
        if units[USERS][unit] == 0:
            newest = units[OLDER][end]
            units[NEWER][newest] = unit
            units[OLDER][unit] = newest
            units[NEWER][unit] = end
            units[OLDER][end] = unit
            state[IDLE_UNITS] += 1
    requests[UNITS][one] = 0


def preempt(
    requests: Any,
    units: Any,
    offsets: Any,
    blocks: Any,
    state: Any,
    phases: Any,
    keys: Any,
    items: Any,
    finishing_keys: Any,
    finishing_items: Any,
    one: int,
    block_tokens: int,
    unit_blocks: int,
    end: int,
) -> None:
    """Send a sequence back to wait: its cache is dropped, what it generated will be computed anew with its prompt."""
    if requests[LAST][one] >= 0:
        passed = state[STEP] - requests[JOINED][one]
        length = requests[LENGTH][one] + passed
        requests[GENERATED][one] += passed
        phases[(length - state[STEP]) % block_tokens] -= 1
        state[DECODING] -= 1
        state[CONTEXT] -= length
        requests[LAST][one] = -1
        discard(finishing_keys, finishing_items, state[FINISHING], one)
        state[FINISHING] -= 1
    else:
        length = requests[TOTAL][one]
    held = (length + block_tokens - 1) // block_tokens
    release(requests, units, offsets, blocks, state, one, held, unit_blocks, end)
    unlink(requests, state, one)
    requests[TOTAL][one] = requests[INPUT][one] + requests[GENERATED][one]
    requests[PROGRESS][one] = 0
    requests[PREEMPTED][one] += 1
    state[PREEMPTIONS] += 1
    push(keys, items, state[WAITING], requests[KEY][one], one)
    state[WAITING] += 1


def count_steps_with_blocks(phases: Any, state: Any, block_tokens: int, available: int, most: int) -> int:
    """Return for how many steps, from the present one whose blocks are taken, decoding does not run out of blocks."""
    a_round: int = state[DECODING]  # blocks taken in `block_tokens` steps, whatever the phases
    steps: int = 1
    rounds: int = min((most - 1) // block_tokens, available // a_round)
    steps += rounds * block_tokens
    available -= rounds * a_round
    while steps < most:
        available -= phases[(-(state[STEP] + steps)) % block_tokens]
        if available < 0:
            break
        steps += 1
    return steps


def run(
    arrival_s: Any,
    requests: Any,
    offsets: Any,
    blocks: Any,
    units: Any,
    unit_tokens: int,
    state: Any,
    phases: Any,
    waiting_keys: Any,
    waiting_items: Any,
    finishing_keys: Any,
    finishing_items: Any,
    prefilled: Any,
    first_s: Any,
    finish_s: Any,
    steps_s: Any,
    tokens_s: Any,
    prefill_token_s: float,
    prefill_context_s: float,
    context_token_s: float,
    capacity_blocks: int,
    block_tokens: int,
    max_batch: int,
    token_budget: int,
    is_chunked: bool,
    is_reordering: bool,
) -> tuple[float, float]:
    """Run all requests, fill `first_s` and `finish_s` (-1: refused); return the busy seconds, and those of prompts.

    `steps_s`: a step's seconds by the sequences that decode; `tokens_s`: what more tokens than those add.
    """
    count = len(arrival_s)
    end = len(units[USERS]) - 1
    unit_blocks = unit_tokens // block_tokens
    now = 0.0
    busy_s = 0.0
    prompts_s = 0.0
    coming = 0
    done = 0
    prefilling = -1
    state[FREE] = capacity_blocks
    state[HEAD] = -1
    state[TAIL] = -1
    units[OLDER][end] = end
    units[NEWER][end] = end
    while done < count:
        while coming < count and arrival_s[coming] <= now + SAME_TIME_S:
            most = requests[INPUT][coming] + requests[OUTPUT][coming] - 1
            if (most + block_tokens - 1) // block_tokens > capacity_blocks:
                done += 1  # it can never run
            else:
                push(waiting_keys, waiting_items, state[WAITING], requests[KEY][coming], coming)
                state[WAITING] += 1
            coming += 1
        if state[RUNNING] == 0 and state[WAITING] == 0:
            if coming < count:
                now = arrival_s[coming]
            continue
        step = state[STEP]

        # (1) blocks for the tokens that are about to be decoded
        was_preempted = False
        needed = phases[(-step) % block_tokens]
        if needed <= state[FREE] + state[IDLE_UNITS] * unit_blocks:
            take_blocks(units, state, needed, unit_blocks, end)
        else:
            was_preempted = True
            one = state[HEAD]
            while one >= 0:
                if (
                    requests[LAST][one] >= 0
                    and (requests[LENGTH][one] + step - requests[JOINED][one]) % block_tokens == 0
                ):
                    is_gone = False
                    while not is_gone and state[FREE] + state[IDLE_UNITS] * unit_blocks < 1:
                        last = state[TAIL]
                        if last == prefilling:
                            prefilling = -1
                        is_gone = last == one
                        preempt(
                            requests,
                            units,
                            offsets,
                            blocks,
                            state,
                            phases,
                            waiting_keys,
                            waiting_items,
                            finishing_keys,
                            finishing_items,
                            last,
                            block_tokens,
                            unit_blocks,
                            end,
                        )
                    if is_gone:
                        break
                    take_blocks(units, state, 1, unit_blocks, end)
                one = requests[AFTER][one]

        # (2) the prompt in work, (3) those that wait
        left = token_budget - state[DECODING]
        prompts = 0
        prompt_tokens = 0
        prompt_contexts = 0
        if prefilling >= 0:
            chunk = min(left, requests[TOTAL][prefilling] - requests[PROGRESS][prefilling])
            start = requests[PROGRESS][prefilling]
            prompt_tokens += chunk
            prompt_contexts += chunk * start + chunk * (chunk - 1) // 2
            requests[PROGRESS][prefilling] = start + chunk
            left -= chunk
            prefilled[0] = prefilling
            prompts = 1
        is_blocked = False
        while not was_preempted and state[WAITING] > 0 and state[RUNNING] < max_batch and left > 0:
            one = waiting_items[0]
            total = requests[TOTAL][one]
            most = min(offsets[one + 1] - offsets[one], (total - 1) // unit_tokens, requests[INPUT][one] // unit_tokens)
            hits = 0
            idle = 0
            while hits < most and units[RESIDENT][blocks[offsets[one] + hits]] == 1:
                if units[USERS][blocks[offsets[one] + hits]] == 0:
                    idle += 1
                hits += 1
            start = hits * unit_tokens
            if start == 0 and requests[PREEMPTED][one] == 0:
                start = requests[REUSED][one]
            if not is_chunked and total - start > left and (prompts > 0 or total <= token_budget):
                is_blocked = True
                break
            needed = (total + block_tokens - 1) // block_tokens - hits * unit_blocks
            if needed > state[FREE] + (state[IDLE_UNITS] - idle) * unit_blocks:
                is_blocked = True
                break
            pop(waiting_keys, waiting_items, state[WAITING])
            state[WAITING] -= 1
            for index in range(hits):
                use_unit(units, state, blocks[offsets[one] + index])
            requests[UNITS][one] = hits
            take_blocks(units, state, needed, unit_blocks, end)
            requests[BEFORE][one] = state[TAIL]
            requests[AFTER][one] = -1
            if state[TAIL] >= 0:
                requests[AFTER][state[TAIL]] = one
            else:
                state[HEAD] = one
            state[TAIL] = one
            state[RUNNING] += 1
            if requests[CACHED][one] < 0:
                requests[CACHED][one] = start
            chunk = min(left, total - start) if is_chunked else total - start
            prompt_tokens += chunk
            prompt_contexts += chunk * start + chunk * (chunk - 1) // 2
            requests[PROGRESS][one] = start + chunk
            left -= chunk
            prefilled[prompts] = one
            prompts += 1

        # (4) time passes
        decoding = state[DECODING]
        context = state[CONTEXT] + decoding  # a token also reads its own cache entry
        a_step_s = steps_s[decoding]
        steps = 1
        if prompts > 0:
            added_s = (
                prefill_token_s * prompt_tokens
                + prefill_context_s * prompt_contexts
                + (tokens_s[decoding + prompt_tokens] - tokens_s[decoding])
            )
            took_s = a_step_s + added_s + context_token_s * context
            prompts_s += added_s if decoding > 0 else took_s
        else:
            steps = finishing_keys[0] - step + 1
            if was_preempted:
                steps = 1
            elif steps > 1:
                available = state[FREE] + state[IDLE_UNITS] * unit_blocks
                steps = count_steps_with_blocks(phases, state, block_tokens, available, steps)
            is_open = state[RUNNING] < max_batch and (state[WAITING] == 0 or (is_blocked and is_reordering))
            if steps > 1 and is_open and coming < count:
                until_s = arrival_s[coming] - SAME_TIME_S
                grows_s = context_token_s * decoding
                linear_s = a_step_s + context_token_s * context - 0.5 * grows_s
                gap_s = until_s - now
                guess = float(steps)
                # the root of linear k + grows k^2 / 2 = gap, in the form that loses no digits
                below_s = linear_s + (linear_s * linear_s + 2.0 * grows_s * gap_s) ** 0.5
                if below_s > 0.0:
                    guess = 2.0 * gap_s / below_s
                reach = max(1, int(min(guess, float(steps))))
                while reach > 1 and now + (reach - 1) * (linear_s + 0.5 * grows_s * (reach - 1)) >= until_s:
                    reach -= 1
                while reach < steps and now + reach * (linear_s + 0.5 * grows_s * reach) < until_s:
                    reach += 1
                steps = reach
            took_s = steps * a_step_s + context_token_s * (steps * context + decoding * (steps * (steps - 1) // 2))
            if steps > 1:
                grown = (steps - 1) // block_tokens * decoding
                for later in range(1, (steps - 1) % block_tokens + 1):
                    grown += phases[(-(step + later)) % block_tokens]
                take_blocks(units, state, grown, unit_blocks, end)
        now += took_s
        busy_s += took_s
        step += steps
        state[STEP] = step
        state[CONTEXT] += steps * decoding

        # (5) tokens come out: of those that decode, then of those whose prompt is done
        while state[FINISHING] > 0 and finishing_keys[0] < step:
            one = finishing_items[0]
            pop(finishing_keys, finishing_items, state[FINISHING])
            state[FINISHING] -= 1
            length = requests[LENGTH][one] + step - requests[JOINED][one]
            phases[(length - step) % block_tokens] -= 1
            state[DECODING] -= 1
            state[CONTEXT] -= length
            held = (length + block_tokens - 1) // block_tokens
            release(requests, units, offsets, blocks, state, one, held, unit_blocks, end)
            unlink(requests, state, one)
            requests[LAST][one] = -1
            finish_s[one] = now
            done += 1
        prefilling = -1
        for index in range(prompts):
            one = prefilled[index]
            ready = min(
                offsets[one + 1] - offsets[one],
                requests[PROGRESS][one] // unit_tokens,
                requests[INPUT][one] // unit_tokens,
            )
            while requests[UNITS][one] < ready:
                unit = blocks[offsets[one] + requests[UNITS][one]]
                if units[RESIDENT][unit] == 1:
                    use_unit(units, state, unit)
                    state[FREE] += unit_blocks  # another computed it meanwhile: one copy is enough
                else:
                    units[RESIDENT][unit] = 1
                    units[USERS][unit] = 1
                requests[UNITS][one] += 1
            total = requests[TOTAL][one]
            if requests[PROGRESS][one] < total:
                prefilling = one
                continue
            requests[GENERATED][one] += 1
            if first_s[one] < 0.0:
                first_s[one] = now
            if requests[GENERATED][one] >= requests[OUTPUT][one]:
                held = (total + block_tokens - 1) // block_tokens
                release(requests, units, offsets, blocks, state, one, held, unit_blocks, end)
                unlink(requests, state, one)
                finish_s[one] = now
                done += 1
                continue
            last = step + requests[OUTPUT][one] - requests[GENERATED][one] - 1
            requests[JOINED][one] = step
            requests[LENGTH][one] = total
            requests[LAST][one] = last
            state[DECODING] += 1
            state[CONTEXT] += total
            phases[(total - step) % block_tokens] += 1
            push(finishing_keys, finishing_items, state[FINISHING], last, one)
            state[FINISHING] += 1
    return busy_s, prompts_s
