-- What acked keeps. Times are wall-clock seconds since the epoch unless it is said otherwise; every
-- name and text is the UTF-8 of its characters as bytea, so that no character is refused and no
-- collation has a say. The view `tasks`, at the end, is for people.
--
-- What never changes of a task lies in `task`. Where it stands is a row in exactly one of three
-- tables: `waiting`, `running`, `done`. A step moves that row, that is, deletes it here and inserts
-- it there. PostgreSQL writes a changed row anew, with an entry in every index that has it; moved,
-- a row is small, and its way through a worker costs three new index entries and not ten.

-- Which database this is, so that a connection can be told to lead to it.
CREATE TABLE {schema}.place (
    id uuid NOT NULL
);
INSERT INTO {schema}.place VALUES (gen_random_uuid());

CREATE TABLE {schema}.task (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- `Record.tag`
    sent double precision NOT NULL,
    eta double precision,
    priority smallint NOT NULL,                           -- with `queue`, changed by a retry only
    id bytea NOT NULL,
    name bytea NOT NULL,                                  -- `Record.task`
    queue bytea NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT task_id UNIQUE (id)
);

CREATE TABLE {schema}.waiting (
    seq bigint PRIMARY KEY,
    due double precision NOT NULL,
    token bigint NOT NULL DEFAULT 0,                      -- of the claim before, as `claimed`
    claimed double precision,
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retries integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    suspected integer NOT NULL DEFAULT 0,
    runs integer NOT NULL DEFAULT 0,
    priority smallint NOT NULL,
    scheduled boolean NOT NULL,                           -- SCHEDULED, else QUEUED
    queue bytea NOT NULL,
    consumer bytea NOT NULL DEFAULT '',
    reason bytea NOT NULL DEFAULT '',
    failure bytea                                         -- JSON of a `Failure`
);

-- In the order in which they are claimed.
CREATE INDEX waiting_ready ON {schema}.waiting (queue, priority DESC, due, seq) WHERE NOT scheduled;
CREATE INDEX waiting_scheduled ON {schema}.waiting (queue, due) WHERE scheduled;

CREATE TABLE {schema}.running (
    seq bigint PRIMARY KEY,
    due double precision NOT NULL,
    token bigint NOT NULL CHECK (token > 0),
    claimed double precision NOT NULL,
    attempt integer NOT NULL,
    retries integer NOT NULL,
    losses integer NOT NULL,
    suspected integer NOT NULL,
    runs integer NOT NULL,
    revoke smallint NOT NULL DEFAULT 0,
    queue bytea NOT NULL,
    consumer bytea NOT NULL,
    failure bytea
);

CREATE INDEX running_consumer ON {schema}.running (consumer);
CREATE INDEX running_orders ON {schema}.running (consumer) WHERE revoke = 2;

CREATE TABLE {schema}.done (
    seq bigint PRIMARY KEY,
    due double precision NOT NULL,
    token bigint NOT NULL,
    claimed double precision,
    finished double precision NOT NULL,
    started double precision,    -- of the run that succeeded, where it has no row in `attempt`
    attempt integer NOT NULL,
    retries integer NOT NULL,
    losses integer NOT NULL,
    suspected integer NOT NULL,
    runs integer NOT NULL,
    revoke smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('SUCCESS', 'FAILURE', 'REVOKED')),
    consumer bytea NOT NULL,
    reason bytea NOT NULL,
    result bytea,
    failure bytea
);

CREATE INDEX done_success ON {schema}.done (finished) WHERE state = 'SUCCESS';
CREATE INDEX done_other_finished ON {schema}.done (state, finished) WHERE state <> 'SUCCESS';
CREATE INDEX done_other ON {schema}.done (seq) WHERE state <> 'SUCCESS';

-- The runs of a task but the one that succeeded, which is in `done`. See `acked.record.Attempt`.
CREATE TABLE {schema}.attempt (
    task bigint NOT NULL,
    run integer NOT NULL,                                 -- from 1
    number integer NOT NULL,
    event text NOT NULL,
    started double precision NOT NULL,
    ended double precision NOT NULL,
    next_at double precision,
    counted boolean NOT NULL,
    loss boolean NOT NULL,
    consumer bytea NOT NULL,
    reason bytea NOT NULL,
    failure bytea,
    log bytea NOT NULL DEFAULT '',
    PRIMARY KEY (task, run)
);

-- What the few tasks say that report progress or save checkpoints.
CREATE TABLE {schema}.note (
    task bigint PRIMARY KEY,
    progress bytea,                                       -- JSON of a `Progress`
    checkpoint bytea
) WITH (fillfactor = 50);

-- How many finished tasks there are, as changes to be added up: one row that all of them count in
-- would make every worker wait for every other's commit. `reap` puts them together.
CREATE TABLE {schema}.tally (
    queue bytea NOT NULL,
    state text NOT NULL,
    change bigint NOT NULL
);

-- Who is alive. A worker whose lease has run out, or that has no row, is dead.
CREATE TABLE {schema}.worker (
    worker bytea PRIMARY KEY,
    lease_until double precision NOT NULL,                -- the clock's steady seconds
    beat bytea                                            -- JSON of a `Beat`; NULL before the first
) WITH (fillfactor = 50);

CREATE TABLE {schema}.pause (
    queue bytea PRIMARY KEY
);

-- See `Broker.exchange`.
CREATE TABLE {schema}.agreement (
    name bytea PRIMARY KEY,
    value bytea NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION {schema}.exchange(asked bytea, old bytea, new bytea) RETURNS bytea
LANGUAGE plpgsql AS $$
DECLARE
    there bytea;
BEGIN
    LOOP
        IF old IS NULL THEN
            INSERT INTO {schema}.agreement (name, value) VALUES (asked, new) ON CONFLICT DO NOTHING;
        ELSE
            UPDATE {schema}.agreement SET value = new WHERE name = asked AND value = old;
        END IF;
        IF FOUND THEN RETURN old; END IF;
        SELECT value INTO there FROM {schema}.agreement WHERE name = asked;
        -- It may be what was asked for by now: then it is tried again, so that *old* means done.
        IF there IS DISTINCT FROM old THEN RETURN there; END IF;
    END LOOP;
END
$$;

-- See `acked.tally.Count`.
CREATE TABLE {schema}.counter (
    minute bigint NOT NULL,
    queue bytea NOT NULL,
    task bytea NOT NULL,
    what bytea NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (minute, queue, task, what)
) WITH (fillfactor = 70);

-- A sent task, a claimed one and a finished one each leave a dead row in these two; they must not
-- wait for a fifth of a million rows to have gathered.
ALTER TABLE {schema}.waiting SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 1
);
ALTER TABLE {schema}.running SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 1
);
ALTER TABLE {schema}.tally SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE {schema}.worker SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- `record.send`. `now_at` is the caller's clock, or NULL for the server's; gives the one that was
-- used.
CREATE FUNCTION {schema}.send(
    ids bytea[], names bytea[], queues bytea[], priorities smallint[], etas double precision[],
    sents double precision[], bodies bytea[], now_at double precision
) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    now_ CONSTANT double precision :=
        coalesce(now_at, extract(epoch FROM clock_timestamp())::double precision);
BEGIN
    WITH stored AS (
        INSERT INTO {schema}.task (id, name, queue, priority, eta, sent, body)
        SELECT * FROM unnest(ids, names, queues, priorities, etas, sents, bodies)
        ON CONFLICT (id) DO NOTHING
        RETURNING seq, queue, priority, eta
    )
    INSERT INTO {schema}.waiting (seq, due, priority, scheduled, queue)
    SELECT
        seq, CASE WHEN eta > now_ THEN eta ELSE now_ END, priority, coalesce(eta > now_, false),
        queue
    FROM stored;
    RETURN now_;
END $$;

-- Of settlements that found no such run: those whose task has another token by now, or is gone.
-- The others were applied before.
CREATE FUNCTION {schema}.strangers(tags bigint[], tokens bigint[]) RETURNS SETOF bigint
LANGUAGE sql AS $$
    SELECT s.token FROM unnest(tags, tokens) AS s (tag, token)
    WHERE NOT EXISTS (SELECT FROM {schema}.waiting AS x WHERE x.seq = s.tag AND x.token = s.token)
      AND NOT EXISTS (SELECT FROM {schema}.done AS x WHERE x.seq = s.tag AND x.token = s.token)
$$;

-- `record.settle` for plain successes: no reason, no failure, settled by who ran them. The run is
-- kept in `done`. Gives the tokens that are refused. A batch names no token twice.
CREATE FUNCTION {schema}.succeed(
    tags bigint[], tokens bigint[], ends double precision[], starts double precision[],
    results bytea[]
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.running AS r
        USING unnest(tags, tokens, ends, starts, results)
            AS s (tag, token, ended, started, result)
        WHERE r.seq = s.tag AND r.token = s.token
        RETURNING
            r.seq, r.due, r.token, r.claimed, s.ended, s.started, r.attempt, r.retries, r.losses,
            r.suspected, r.runs, r.revoke, r.consumer, s.result, r.queue
    ),
    kept AS (
        INSERT INTO {schema}.done (
            seq, due, token, claimed, finished, started, attempt, retries, losses, suspected, runs,
            revoke, state, consumer, reason, result
        )
        SELECT
            seq, due, token, claimed, ended, started, attempt, retries, losses, suspected, runs + 1,
            revoke, 'SUCCESS', consumer, '', result
        FROM gone
    ),
    counted AS (
        INSERT INTO {schema}.tally (queue, state, change)
        SELECT queue, 'SUCCESS', count(*) FROM gone GROUP BY queue
    )
    SELECT count(*) FROM gone INTO moved;
    IF moved < cardinality(tags) THEN
        RETURN QUERY SELECT {schema}.strangers(tags, tokens);
    END IF;
END $$;

-- `record.settle` and `record.history` for every other settlement. `back` says that the task would
-- run again, and does not if it was revoked meanwhile; a new `body` comes with its queue and
-- priority. Gives the tokens that are refused, and the queues in which tasks wait again.
CREATE FUNCTION {schema}.settle(
    tags bigint[], tokens bigint[], states text[], events text[], backs boolean[],
    ends double precision[], starts double precision[], results bytea[],
    not_befores double precision[], reasons bytea[], counted_ boolean[], losses_ boolean[],
    suspects boolean[], failures bytea[], bodies bytea[], queues bytea[], priorities smallint[],
    consumers bytea[], logs bytea[],
    OUT refused bigint[], OUT woken bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.running AS r
        USING unnest(
            tags, tokens, states, events, backs, ends, starts, results, not_befores, reasons,
            counted_, losses_, suspects, failures, bodies, queues, priorities, consumers,
            logs
        ) AS s (
            tag, token, state, event, back, ended, started, result, not_before, reason, counts,
            loss, suspect, failure, body, queue, priority, consumer, log
        )
        WHERE r.seq = s.tag AND r.token = s.token
        RETURNING
            r.seq, r.token, r.claimed, r.retries, r.losses, r.suspected, r.runs, r.revoke,
            r.attempt AS number, r.attempt - (NOT s.counts)::integer AS attempt,
            r.queue AS old_queue, r.consumer AS holder, coalesce(s.not_before, r.due) AS due,
            CASE WHEN s.event <> 'succeed' THEN coalesce(s.failure, r.failure) END AS failure,
            CASE WHEN s.back AND r.revoke > 0 THEN 'REVOKED' ELSE s.state END AS state,
            s.event, s.ended, s.started, s.result, s.not_before, s.reason, s.counts, s.loss,
            s.suspect, s.failure AS own_failure, s.body, s.queue, s.priority, s.consumer, s.log
    ),
    after AS (
        SELECT
            seq, due, token, claimed, attempt,
            retries + (event = 'retry' AND revoke = 0)::integer AS retries,
            -- Alone this time, so it was to blame the times before as well.
            losses + CASE WHEN loss THEN 1 + suspected ELSE 0 END AS losses,
            CASE WHEN loss THEN 0 ELSE suspected + suspect::integer END AS suspected,
            runs + (started IS NOT NULL)::integer AS runs,
            revoke, state, holder AS consumer, ended,
            CASE WHEN state = 'REVOKED' AND event IN ('retry', 'postpone', 'release')
                THEN 'revoked' ELSE reason END AS reason,
            result, failure, body, coalesce(queue, old_queue) AS queue, priority
        FROM gone
    ),
    kept AS (
        INSERT INTO {schema}.done (
            seq, due, token, claimed, finished, attempt, retries, losses, suspected, runs, revoke,
            state, consumer, reason, result, failure
        )
        SELECT
            seq, due, token, claimed, ended, attempt, retries, losses, suspected, runs, revoke,
            state, consumer, reason, result, failure
        FROM after WHERE state NOT IN ('QUEUED', 'SCHEDULED')
    ),
    back AS (
        INSERT INTO {schema}.waiting (
            seq, due, token, claimed, attempt, retries, losses, suspected, runs, priority,
            scheduled, queue, consumer, reason, failure
        )
        SELECT
            a.seq, due, token, claimed, attempt, retries, losses, suspected, runs,
            coalesce(a.priority, task.priority), state = 'SCHEDULED', a.queue, consumer, reason,
            failure
        FROM after AS a JOIN {schema}.task ON task.seq = a.seq
        WHERE state IN ('QUEUED', 'SCHEDULED')
    ),
    noted AS (
        INSERT INTO {schema}.attempt (
            task, run, number, event, started, ended, next_at, counted, loss, consumer, reason,
            failure, log
        )
        SELECT
            seq, runs + 1, number, event, started, ended, not_before, counts, loss,
            coalesce(consumer, holder), reason, own_failure, log
        FROM gone WHERE started IS NOT NULL
    ),
    changed AS (
        UPDATE {schema}.task AS t SET body = a.body, queue = a.queue, priority = a.priority
        FROM after AS a WHERE t.seq = a.seq AND a.body IS NOT NULL
    ),
    counted AS (
        INSERT INTO {schema}.tally (queue, state, change)
        SELECT queue, state, count(*) FROM after WHERE state NOT IN ('QUEUED', 'SCHEDULED')
        GROUP BY queue, state
    )
    SELECT
        count(*), array_agg(DISTINCT queue) FILTER (WHERE state IN ('QUEUED', 'SCHEDULED'))
    FROM after INTO moved, woken;
    IF moved < cardinality(tags) THEN
        refused := ARRAY(SELECT {schema}.strangers(tags, tokens));
    END IF;
END $$;

-- What a claim hands out. Times and counts are those of the claim.
CREATE TYPE {schema}.delivery AS (
    seq bigint, id bytea, body bytea, attempt integer, retries integer, losses integer,
    suspected integer, runs integer, queue bytea, sent double precision, claimed double precision,
    priority smallint, due double precision
);

-- Move the rows `picked` of `waiting`, which the caller has locked, to `running`.
CREATE FUNCTION {schema}.hand_out(
    picked tid[], holder bytea, now_ double precision, base bigint
) RETURNS SETOF {schema}.delivery LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH gone AS (
        DELETE FROM {schema}.waiting AS w WHERE w.ctid = ANY (picked)
        RETURNING
            w.seq, w.due, w.attempt, w.retries, w.losses, w.suspected, w.runs, w.queue, w.failure,
            w.priority
    ),
    held AS (
        INSERT INTO {schema}.running (
            seq, due, token, claimed, attempt, retries, losses, suspected, runs, queue, consumer,
            failure
        )
        SELECT
            g.seq, g.due, base + g.seq, now_, g.attempt + 1, g.retries, g.losses, g.suspected,
            g.runs, g.queue, holder, g.failure
        FROM gone AS g
    )
    SELECT
        g.seq, t.id, t.body, g.attempt + 1, g.retries, g.losses, g.suspected, g.runs, g.queue,
        t.sent, now_, g.priority, g.due
    FROM gone AS g JOIN {schema}.task AS t ON t.seq = g.seq
    ORDER BY g.priority DESC, g.due, g.seq;
END $$;

-- A worker that takes tasks before its first beat has a lease all the same.
CREATE FUNCTION {schema}.expect_beats(
    name bytea, lease_end double precision
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Looked for first: an INSERT that ends in nothing writes all the same.
    IF NOT EXISTS (SELECT FROM {schema}.worker WHERE worker = name) THEN
        INSERT INTO {schema}.worker (worker, lease_until)
        VALUES (name, lease_end)
        ON CONFLICT DO NOTHING;
    END IF;
END $$;

-- Make up to 1000 due tasks of a queue ready, so that a million of them becoming due at once do not
-- keep anybody for long; how many there were.
CREATE FUNCTION {schema}.promote(name bytea, now_ double precision) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    picked tid[];
BEGIN
    picked := ARRAY(
        SELECT ctid FROM {schema}.waiting
        WHERE queue = name AND scheduled AND due <= now_
        ORDER BY due LIMIT 1000 FOR UPDATE SKIP LOCKED
    );
    IF cardinality(picked) > 0 THEN
        UPDATE {schema}.waiting SET scheduled = false WHERE ctid = ANY (picked);
    END IF;
    RETURN cardinality(picked);
END $$;

-- Where to begin in each priority of a queue; see `looking.py`. None: from the beginning.
CREATE TYPE {schema}.mark AS (priority smallint, due double precision, seq bigint);

CREATE FUNCTION {schema}.marks_of(
    name bytea, queues bytea[], priorities smallint[], dues double precision[], seqs bigint[]
) RETURNS {schema}.mark[] LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(queues) = 0 THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT ROW(m.priority, m.due, m.seq)::{schema}.mark
        FROM unnest(queues, priorities, dues, seqs) AS m (queue, priority, due, seq)
        WHERE m.queue = name ORDER BY m.priority DESC
    );
END $$;

-- Lock up to `wanted` ready tasks of a queue, the first of them, beginning at `marks`.
CREATE FUNCTION {schema}.pick(name bytea, wanted integer, marks {schema}.mark[])
RETURNS tid[] LANGUAGE plpgsql AS $$
DECLARE
    picked tid[] := '{}';
    mark_ {schema}.mark;
    above integer := 32767;
BEGIN
    FOREACH mark_ IN ARRAY marks LOOP
        picked := picked || ARRAY(
            SELECT ctid FROM {schema}.waiting
            WHERE queue = name AND NOT scheduled AND priority < above
              AND priority > mark_.priority
            ORDER BY priority DESC, due, seq LIMIT wanted - cardinality(picked)
            FOR UPDATE SKIP LOCKED
        );
        picked := picked || ARRAY(
            SELECT ctid FROM {schema}.waiting
            WHERE queue = name AND NOT scheduled AND priority = mark_.priority
              AND (due, seq) > (mark_.due, mark_.seq)
            ORDER BY due, seq LIMIT wanted - cardinality(picked)
            FOR UPDATE SKIP LOCKED
        );
        above := mark_.priority;
    END LOOP;
    RETURN picked || ARRAY(
        SELECT ctid FROM {schema}.waiting
        WHERE queue = name AND NOT scheduled AND priority < above
        ORDER BY priority DESC, due, seq LIMIT wanted - cardinality(picked)
        FOR UPDATE SKIP LOCKED
    );
END $$;

-- Whether a queue has a ready task, beginning at `marks`.
CREATE FUNCTION {schema}.is_ready(name bytea, marks {schema}.mark[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    mark_ {schema}.mark;
    above integer := 32767;
BEGIN
    FOREACH mark_ IN ARRAY marks LOOP
        IF EXISTS (
            SELECT FROM {schema}.waiting
            WHERE queue = name AND NOT scheduled AND priority < above
              AND priority > mark_.priority
        ) OR EXISTS (
            SELECT FROM {schema}.waiting
            WHERE queue = name AND NOT scheduled AND priority = mark_.priority
              AND (due, seq) > (mark_.due, mark_.seq)
        ) THEN
            RETURN true;
        END IF;
        above := mark_.priority;
    END LOOP;
    RETURN EXISTS (
        SELECT FROM {schema}.waiting WHERE queue = name AND NOT scheduled AND priority < above
    );
END $$;

-- `record.claim` for up to `wanted` tasks of `queues`, earlier ones first. The token of each is
-- `base` and its `seq`, added up. A row without `seq` follows those of each queue: `attempt` says
-- how many entries of the index were walked over for nothing, `claimed` what time it is.
CREATE FUNCTION {schema}.take(
    holder bytea, worker_ bytea, queues bytea[], wanted integer,
    mark_queues bytea[], mark_priorities smallint[], mark_dues double precision[],
    mark_seqs bigint[],
    now_at double precision, steady_at double precision, lease double precision, base bigint
) RETURNS SETOF {schema}.delivery LANGUAGE plpgsql AS $$
DECLARE
    now_ CONSTANT double precision :=
        coalesce(now_at, extract(epoch FROM clock_timestamp())::double precision);
    name bytea;
    picked tid[];
    marks {schema}.mark[];
    left_ integer := wanted;
    -- PostgreSQL counts what a scan of an index gives, dead entries too. Time would tell less: on a
    -- busy machine everything takes long.
    entries CONSTANT oid := '{schema}.waiting_ready'::regclass;
    before bigint;
BEGIN
    FOREACH name IN ARRAY queues LOOP
        EXIT WHEN left_ <= 0;
        CONTINUE WHEN EXISTS (SELECT FROM {schema}.pause WHERE queue = name);
        before := pg_stat_get_xact_tuples_returned(entries);
        marks := {schema}.marks_of(name, mark_queues, mark_priorities, mark_dues, mark_seqs);
        IF cardinality(marks) = 0 THEN
            PERFORM {schema}.promote(name, now_);
        END IF;
        picked := {schema}.pick(name, left_, marks);
        IF cardinality(picked) > 0 THEN
            IF left_ = wanted THEN
                PERFORM {schema}.expect_beats(worker_, coalesce(steady_at, now_) + lease);
            END IF;
            left_ := left_ - cardinality(picked);
            RETURN QUERY SELECT * FROM {schema}.hand_out(picked, holder, now_, base);
        END IF;
        RETURN QUERY SELECT
            NULL::bigint, ''::bytea, ''::bytea,
            (pg_stat_get_xact_tuples_returned(entries) - before)::integer
                - coalesce(cardinality(picked), 0),
            0, 0, 0, 0, name, 0::double precision, now_, 0::smallint, 0::double precision;
    END LOOP;
END $$;

-- As `take`, but the tasks named by `ids`, where they wait in one of `queues` that is not paused.
CREATE FUNCTION {schema}.admit(
    holder bytea, worker_ bytea, queues bytea[], ids bytea[], now_at double precision,
    steady_at double precision, lease double precision, base bigint
) RETURNS SETOF {schema}.delivery LANGUAGE plpgsql AS $$
DECLARE
    now_ CONSTANT double precision :=
        coalesce(now_at, extract(epoch FROM clock_timestamp())::double precision);
    picked tid[];
BEGIN
    picked := ARRAY(
        SELECT w.ctid
        FROM unnest(ids) AS wanted (id)
        JOIN {schema}.task AS t ON t.id = wanted.id
        JOIN {schema}.waiting AS w ON w.seq = t.seq
        WHERE (NOT w.scheduled OR w.due <= now_) AND w.queue = ANY (queues)
          AND NOT EXISTS (SELECT FROM {schema}.pause AS p WHERE p.queue = w.queue)
        FOR UPDATE OF w SKIP LOCKED
    );
    IF cardinality(picked) > 0 THEN
        PERFORM {schema}.expect_beats(worker_, coalesce(steady_at, now_) + lease);
        RETURN QUERY SELECT * FROM {schema}.hand_out(picked, holder, now_, base);
    END IF;
END $$;

-- When there will be something to claim in `queues`: -infinity for now, else the time at which the
-- next scheduled task is due; NULL when nothing waits. What is scheduled in a queue that has marks
-- is left to the next look from the beginning.
CREATE FUNCTION {schema}.next_work(
    queues bytea[], mark_queues bytea[], mark_priorities smallint[],
    mark_dues double precision[], mark_seqs bigint[]
) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    name bytea;
    due_ double precision;
    soonest double precision;
    marks {schema}.mark[];
BEGIN
    FOREACH name IN ARRAY queues LOOP
        CONTINUE WHEN EXISTS (SELECT FROM {schema}.pause WHERE queue = name);
        marks := {schema}.marks_of(name, mark_queues, mark_priorities, mark_dues, mark_seqs);
        IF {schema}.is_ready(name, marks) THEN
            RETURN '-infinity';
        END IF;
        CONTINUE WHEN cardinality(marks) > 0;
        SELECT due FROM {schema}.waiting WHERE queue = name AND scheduled
        ORDER BY due LIMIT 1 INTO due_;
        soonest := least(soonest, due_);
    END LOOP;
    RETURN soonest;
END $$;

-- Wake whoever waits. A thread that waits for a queue holds the advisory lock (`space`, its key)
-- shared, and listens on the channel of that name. NOTIFY takes a lock of the whole instance when
-- it commits, so nobody is notified who does not wait.
CREATE FUNCTION {schema}.wake(space integer, keys integer[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    key_ integer;
BEGIN
    FOREACH key_ IN ARRAY keys LOOP
        IF NOT pg_try_advisory_xact_lock(space, key_) THEN
            PERFORM pg_notify('acked_' || space || '_' || key_, '');
        END IF;
    END LOOP;
END $$;

-- Give each of what the consumers `dead` hold a fresh token and a new holder, but not where their
-- worker, if it is named in `workers`, has come back to life, and not what has a token in `kept`.
-- A portion of it, of the tasks behind `after`: a host may have died with more than a slow line
-- carries in the time there is for one answer.
CREATE TYPE {schema}.seizure AS (
    seq bigint, id bytea, body bytea, attempt integer, retries integer, losses integer,
    suspected integer, runs integer, queue bytea, sent double precision, claimed double precision,
    holder bytea, token bigint
);

CREATE FUNCTION {schema}.seize(
    dead bytea[], workers bytea[], new_holder bytea, worker_ bytea, now_at double precision,
    steady_at double precision, lease double precision, base bigint, kept bigint[], after bigint,
    bytes bigint
) RETURNS SETOF {schema}.seizure LANGUAGE plpgsql AS $$
DECLARE
    now_ CONSTANT double precision :=
        coalesce(now_at, extract(epoch FROM clock_timestamp())::double precision);
    gone CONSTANT bytea[] := ARRAY(
        SELECT d.consumer FROM unnest(dead, workers) AS d (consumer, worker)
        WHERE NOT EXISTS (SELECT FROM {schema}.worker AS w WHERE w.worker = d.worker)
    );
    portion CONSTANT bigint[] := ARRAY(
        SELECT o.seq FROM (
            SELECT r.seq, sum(length(t.body)) OVER (ORDER BY r.seq) - length(t.body) AS before
            FROM (
                SELECT h.seq FROM (
                    -- By holder: OFFSET keeps it from walking over whatever else ran, in order.
                    SELECT seq, token FROM {schema}.running WHERE consumer = ANY (gone) OFFSET 0
                ) AS h
                WHERE h.seq > after AND h.token <> ALL (kept) ORDER BY h.seq LIMIT 1000
            ) AS r
            JOIN {schema}.task AS t ON t.seq = r.seq
        ) AS o
        WHERE o.before < bytes
    );
BEGIN
    RETURN QUERY
    WITH held AS (
        SELECT r.seq, r.token, r.consumer FROM {schema}.running AS r
        WHERE r.seq = ANY (portion) AND r.consumer = ANY (gone) AND r.token <> ALL (kept)
        ORDER BY r.seq FOR UPDATE
    ),
    taken AS (
        UPDATE {schema}.running AS r SET token = base + r.seq, consumer = new_holder
        FROM held WHERE r.seq = held.seq
        RETURNING r.*, held.token AS old_token, held.consumer AS old_consumer
    )
    SELECT
        r.seq, t.id, t.body, r.attempt, r.retries, r.losses, r.suspected, r.runs, r.queue, t.sent,
        r.claimed, r.old_consumer, r.old_token
    FROM taken AS r JOIN {schema}.task AS t ON t.seq = r.seq ORDER BY r.seq;
    IF FOUND THEN
        PERFORM {schema}.expect_beats(worker_, coalesce(steady_at, now_) + lease);
    END IF;
END $$;

-- Everybody who holds something, found with one look at the index for each.
CREATE FUNCTION {schema}.holders() RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
    found_ bytea[] := '{}';
    name bytea := '';
BEGIN
    LOOP
        SELECT consumer FROM {schema}.running WHERE consumer > name
        ORDER BY consumer LIMIT 1 INTO name;
        EXIT WHEN name IS NULL;
        found_ := found_ || name;
    END LOOP;
    RETURN found_;
END $$;

-- `record.revoke`. A task may move while it is looked for, so it is looked for again until it was
-- found somewhere.
CREATE FUNCTION {schema}.revoke(ids bytea[], wish smallint, now_at double precision)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    now_ CONSTANT double precision :=
        coalesce(now_at, extract(epoch FROM clock_timestamp())::double precision);
    left_ bigint[];
    met bigint[];
    total bigint := 0;
BEGIN
    left_ := ARRAY(SELECT seq FROM {schema}.task WHERE id = ANY (ids) ORDER BY seq);
    WHILE cardinality(left_) > 0 LOOP
        PERFORM FROM {schema}.waiting WHERE seq = ANY (left_) ORDER BY seq FOR UPDATE;
        WITH gone AS (
            DELETE FROM {schema}.waiting WHERE seq = ANY (left_) RETURNING *
        ),
        kept AS (
            INSERT INTO {schema}.done (
                seq, due, token, claimed, finished, attempt, retries, losses, suspected, runs,
                revoke, state, consumer, reason, failure
            )
            SELECT
                seq, due, token, claimed, now_, attempt, retries, losses, suspected, runs, 1,
                'REVOKED', consumer, 'revoked', failure
            FROM gone
        ),
        counted AS (
            INSERT INTO {schema}.tally (queue, state, change)
            SELECT queue, 'REVOKED', count(*) FROM gone GROUP BY queue
        )
        SELECT coalesce(array_agg(seq), '{}') FROM gone INTO met;
        total := total + cardinality(met);
        PERFORM FROM {schema}.running WHERE seq = ANY (left_) ORDER BY seq FOR UPDATE;
        WITH marked AS (
            UPDATE {schema}.running SET revoke = greatest(revoke, wish)
            WHERE seq = ANY (left_) AND seq <> ALL (met) RETURNING seq
        )
        SELECT met || coalesce(array_agg(seq), '{}'), total + count(*) FROM marked INTO met, total;
        left_ := ARRAY(
            SELECT s FROM unnest(left_) AS s
            WHERE s <> ALL (met) AND EXISTS (SELECT FROM {schema}.task WHERE seq = s)
              AND NOT EXISTS (SELECT FROM {schema}.done WHERE seq = s)
            ORDER BY s
        );
    END LOOP;
    RETURN total;
END $$;

-- `record.requeue`. The run of a failed or revoked task is in `attempt` already.
CREATE FUNCTION {schema}.requeue(
    ids bytea[], now_at double precision, OUT woken bytea[], OUT total bigint
) LANGUAGE plpgsql AS $$
DECLARE
    now_ CONSTANT double precision :=
        coalesce(now_at, extract(epoch FROM clock_timestamp())::double precision);
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.done AS d USING {schema}.task AS t
        WHERE t.id = ANY (ids) AND d.seq = t.seq AND d.state <> 'SUCCESS'
        RETURNING d.seq, d.token, d.claimed, d.attempt, d.runs, d.consumer, d.state, t.queue,
            t.priority
    ),
    back AS (
        INSERT INTO {schema}.waiting (
            seq, due, token, claimed, attempt, runs, priority, scheduled, queue, consumer, reason
        )
        SELECT
            seq, now_, token, claimed, attempt, runs, priority, false, queue, consumer, 'requeued'
        FROM gone
    ),
    forgot AS (
        UPDATE {schema}.note AS n SET progress = NULL FROM gone WHERE n.task = gone.seq
    ),
    counted AS (
        INSERT INTO {schema}.tally (queue, state, change)
        SELECT queue, state, -count(*) FROM gone GROUP BY queue, state
    )
    SELECT coalesce(array_agg(DISTINCT queue), '{}'), count(*) FROM gone INTO woken, total;
END $$;

-- Delete the finished tasks `numbers`, with all that is kept of them; how many there were.
CREATE FUNCTION {schema}.delete_done(numbers bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    total bigint;
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.done WHERE seq = ANY (numbers) RETURNING seq, state
    ),
    tasks AS (
        DELETE FROM {schema}.task AS t USING gone WHERE t.seq = gone.seq
        RETURNING t.queue, gone.state
    ),
    attempts AS (
        DELETE FROM {schema}.attempt AS a USING gone WHERE a.task = gone.seq
    ),
    notes AS (
        DELETE FROM {schema}.note AS n USING gone WHERE n.task = gone.seq
    ),
    counted AS (
        INSERT INTO {schema}.tally (queue, state, change)
        SELECT queue, state, -count(*) FROM tasks GROUP BY queue, state
    )
    SELECT count(*) FROM tasks INTO total;
    RETURN total;
END $$;

-- The same for waiting tasks.
CREATE FUNCTION {schema}.delete_waiting(numbers bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    total bigint;
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.waiting WHERE seq = ANY (numbers) RETURNING seq
    ),
    tasks AS (
        DELETE FROM {schema}.task AS t USING gone WHERE t.seq = gone.seq RETURNING t.seq
    ),
    attempts AS (
        DELETE FROM {schema}.attempt AS a USING gone WHERE a.task = gone.seq
    ),
    notes AS (
        DELETE FROM {schema}.note AS n USING gone WHERE n.task = gone.seq
    )
    SELECT count(*) FROM tasks INTO total;
    RETURN total;
END $$;

-- Put the changes of `tally` together.
CREATE FUNCTION {schema}.sum_up() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM {schema}.tally LIMIT 100) AS some_) < 100 THEN
        RETURN;
    END IF;
    WITH picked AS (
        SELECT ctid AS at FROM {schema}.tally LIMIT 10000 FOR UPDATE SKIP LOCKED
    ),
    gone AS (
        DELETE FROM {schema}.tally WHERE ctid = ANY (ARRAY(SELECT at FROM picked))
        RETURNING queue, state, change
    )
    INSERT INTO {schema}.tally (queue, state, change)
    SELECT queue, state, sum(change) FROM gone GROUP BY queue, state HAVING sum(change) <> 0;
END $$;

-- Every task as `acked.record.Record` has it.
CREATE VIEW {schema}.record AS
SELECT
    t.seq, t.id, t.body, t.name, t.queue, t.priority, t.sent, s.state, s.due, s.attempt, s.retries,
    s.losses, s.suspected, s.runs, s.token, s.consumer, s.claimed, s.finished, s.result, s.failure,
    s.reason, s.revoke, n.progress
FROM {schema}.task AS t
JOIN (
    SELECT
        seq, CASE WHEN scheduled THEN 'SCHEDULED' ELSE 'QUEUED' END AS state, due, attempt, retries,
        losses, suspected, runs, token, consumer, claimed, NULL::double precision AS finished,
        NULL::bytea AS result, failure, reason, 0::smallint AS revoke
    FROM {schema}.waiting
    UNION ALL
    SELECT
        seq, 'RUNNING', due, attempt, retries, losses, suspected, runs, token, consumer, claimed,
        NULL, NULL, failure, '', revoke
    FROM {schema}.running
    UNION ALL
    SELECT
        seq, state, due, attempt, retries, losses, suspected, runs, token, consumer, claimed,
        finished, result, failure, reason, revoke
    FROM {schema}.done
) AS s ON s.seq = t.seq
LEFT JOIN {schema}.note AS n ON n.task = t.seq;

-- Every run of every task as `acked.record.Attempt` has it.
CREATE VIEW {schema}.run AS
SELECT
    task, run, number, event, started, ended, next_at, counted, loss, consumer, reason, failure, log
FROM {schema}.attempt
UNION ALL
SELECT
    seq, runs, attempt, 'succeed', started, finished, NULL, true, false, consumer, reason, NULL, ''
FROM {schema}.done WHERE started IS NOT NULL;

-- The tasks for people, with text as text.
CREATE VIEW {schema}.tasks AS
SELECT
    seq, encode(id, 'escape') AS id, encode(name, 'escape') AS task,
    encode(queue, 'escape') AS queue, priority, state, to_timestamp(sent) AS sent,
    to_timestamp(due) AS due, attempt, to_timestamp(claimed) AS claimed,
    encode(consumer, 'escape') AS consumer, to_timestamp(finished) AS finished,
    encode(reason, 'escape') AS reason, encode(result, 'escape') AS result,
    encode(body, 'escape') AS message
FROM {schema}.record;
