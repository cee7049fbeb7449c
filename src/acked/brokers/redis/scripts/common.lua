-- What every script begins with: the keys, the time, the records.
--
-- KEYS[1]  the prefix, "{acked}:" for the prefix acked. Every key of this broker begins with it.
--          The braces make all of them one hash slot, so that one script may touch any of them on
--          a Cluster too.
-- ARGV[1]  the arguments, MessagePack: now, steady, then those of the script.
-- ARGV[2…] bytes that are stored as they are (bodies, results), named by their place in ARGV.
--
-- The keys, without the prefix. T is a task's tag: 13 digits, so that order as text is its order
-- as a number, which is the order of ties in a sorted set.
--
--   tag                      string  the tag given last
--   id                       hash    task id -> T
--   state                    hash    T -> the record, MessagePack, fields as below
--   body                     hash    T -> the message, JSON
--   result                   hash    T -> the return value, JSON
--   failure                  hash    T -> the latest failure, JSON
--   progress                 hash    T -> the latest report, JSON
--   saved                    hash    T -> checkpoint, JSON
--   attempt                  hash    T:n -> the n-th entry of the history, MessagePack
--   block                    hash    T / 1024 -> how many records of those 1024 tags there are
--   lanes:<queue>            zset    priority -> priority, of the lanes below that may hold tasks
--   ready:<priority>:<queue> zset    T -> due, of what is QUEUED
--   scheduled                set     queues that may have a key of the next kind
--   later:<queue>            zset    T -> due, of what is SCHEDULED
--   holders                  set     workers that may have a key of the next kind
--   held:<worker>            hash    T -> the consumer that holds it, of what is RUNNING
--   kill                     set     T, of what is RUNNING and was revoked with terminate
--   done:<state>             zset    T -> finished, of what is in that final state
--   count                    hash    <state>:<queue> -> how many
--   paused                   set     queues
--   lease                    zset    worker -> steady time at which its lease runs out
--   beat                     hash    worker -> lease in seconds and latest beat, MessagePack
--   wake:<queue>             list    one token for each waiter that should look for work
--
-- A script that fails in its midst keeps what it has written so far. So each one reads and decides
-- first, and writes last. What must go on while memory is at its limit (everything but `send`)
-- begins with a DEL: Redis refuses a script for want of memory only at its first write, and only
-- if that write could need memory. This holds for 6.2 as well, where a script has no flags.

local P = KEYS[1]
local call, format, floor, min, max = redis.call, string.format, math.floor, math.min, math.max
local pack, decode = cmsgpack.pack, cmsgpack.unpack
local args = decode(ARGV[1])
local now, steady = args[1], args[2]
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
  steady = now
end

-- The fields of a record. Absent is false, since nil would end a table.
local ID, TASK, QUEUE, PRIORITY, SENT, STATE, DUE, ATTEMPT, RETRIES, LOSSES, SUSPECTED, RUNS, TOKEN,
  CONSUMER, CLAIMED, FINISHED, REASON, REVOKE, ENTRIES, STARTED, RESULT, FAILED =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22
-- ENTRIES   how many entries of its history are in `attempt`
-- STARTED   of a SUCCESS: when its last attempt began. That attempt has no entry of its own, as
--           the record says all there is to say of it
-- RESULT, FAILED   whether there is one in `result`, `failure`
local FIELDS = 22

local AT_ONCE = 2000 -- arguments of one command; unpack is limited by Lua's stack
local LEASE = 10
local TOKENS = 256 -- tokens that a wake list holds at most

local function tag_of(number) return format('%013.0f', number) end

local function worker_of(consumer) return string.match(consumer, '^[^/]*') end

-- The values of *fields* in the hash *key*, false where there is none.
local function values(key, fields)
  local count = #fields
  if count <= AT_ONCE then
    return count > 0 and call('HMGET', P .. key, unpack(fields)) or {}
  end
  local all = {}
  for i = 1, count, AT_ONCE do
    for _, value in ipairs(call('HMGET', P .. key, unpack(fields, i, min(i + AT_ONCE - 1, count)))) do
      all[#all + 1] = value
    end
  end
  return all
end

-- What is to be written, collected so that one command writes it for a whole batch.
local writes = {} -- command -> key -> its arguments
local moved = {}  -- <state>:<queue> -> by how much its count changes
local blocks = {} -- likewise, of `block`
local bells = {}  -- queue -> for how many tasks to wake somebody

local function write(command, key, a, b)
  local keys = writes[command]
  if not keys then keys = {} writes[command] = keys end
  local list = keys[key]
  if not list then list = {} keys[key] = list end
  local n = #list
  list[n + 1] = a
  if b ~= nil then list[n + 2] = b end
end

local function move(state, queue, by)
  local field = state .. ':' .. queue
  moved[field] = (moved[field] or 0) + by
end

local function flush_counts(key, changes)
  for field, by in pairs(changes) do
    if by ~= 0 and call('HINCRBY', P .. key, field, by) <= 0 then call('HDEL', P .. key, field) end
  end
end

-- Removals first: what leaves one place and comes back to it must be there in the end.
local REMOVALS, ADDITIONS = {'HDEL', 'ZREM', 'SREM'}, {'HSET', 'ZADD', 'SADD'}

local function flush_writes(commands)
  for _, command in ipairs(commands) do
    local keys = writes[command]
    if keys then
      for key, list in pairs(keys) do
        for i = 1, #list, AT_ONCE do
          call(command, P .. key, unpack(list, i, min(i + AT_ONCE - 1, #list)))
        end
      end
    end
  end
end

local function flush()
  flush_writes(REMOVALS)
  flush_writes(ADDITIONS)
  flush_counts('count', moved)
  flush_counts('block', blocks)
  for queue, tasks in pairs(bells) do
    local key = P .. 'wake:' .. queue
    local room = min(tasks, TOKENS - call('LLEN', key))
    if room == 1 then
      call('RPUSH', key, '1')
    elseif room > 1 then
      local tokens = {}
      for i = 1, room do tokens[i] = '1' end
      call('RPUSH', key, unpack(tokens))
    end
  end
  writes, moved, blocks, bells = {}, {}, {}, {}
end

-- Writes may begin though memory is at its limit; see above.
local function begin() call('DEL', P .. 'nothing') end

-- The records of *tags*, false where there is none.
local function records(tags)
  local all = values('state', tags)
  for i = 1, #all do
    local blob = all[i]
    if blob then all[i] = {decode(blob)} end
  end
  return all
end

local function store(tag, r) write('HSET', 'state', tag, pack(unpack(r, 1, FIELDS))) end

local function ring(queue, tasks) bells[queue] = (bells[queue] or 0) + tasks end

-- It waits from now on, ready or for its time.
local function line_up(tag, r)
  local queue = r[QUEUE]
  if r[STATE] == 'QUEUED' then
    write('ZADD', 'ready:' .. r[PRIORITY] .. ':' .. queue, r[DUE], tag)
    writes.ZADD['lanes:' .. queue] = writes.ZADD['lanes:' .. queue] or {}
    local lanes = writes.ZADD['lanes:' .. queue]
    if lanes[#lanes] ~= r[PRIORITY] then
      lanes[#lanes + 1] = r[PRIORITY]
      lanes[#lanes + 1] = r[PRIORITY]
    end
    ring(queue, 1)
  else
    write('ZADD', 'later:' .. queue, r[DUE], tag)
    writes.SADD = writes.SADD or {}
    writes.SADD.scheduled = writes.SADD.scheduled or {}
    local queues = writes.SADD.scheduled
    if queues[#queues] ~= queue then queues[#queues + 1] = queue end
    -- Somebody must learn that this one is due before what was due next.
    local first = call('ZRANGE', P .. 'later:' .. queue, 0, 0, 'WITHSCORES')
    if not first[2] or tonumber(first[2]) > r[DUE] then bells[queue] = max(bells[queue] or 0, 1) end
  end
end

-- It waits no longer.
local function step_out(tag, r)
  if r[STATE] == 'QUEUED' then
    write('ZREM', 'ready:' .. r[PRIORITY] .. ':' .. r[QUEUE], tag)
  else
    write('ZREM', 'later:' .. r[QUEUE], tag)
  end
end

-- Its holder holds it no longer.
local function let_go(tag, r)
  write('HDEL', 'held:' .. worker_of(r[CONSUMER]), tag)
  if r[REVOKE] == 2 then write('SREM', 'kill', tag) end
end

-- The lanes of *queue*, highest priority first.
local function lanes(queue)
  local all = call('ZREVRANGE', P .. 'lanes:' .. queue, 0, -1)
  for i = 1, #all do all[i] = 'ready:' .. all[i] .. ':' .. queue end
  return all
end

-- Which of *queues* are open, in their order.
local function open(queues)
  local list = {}
  if #queues > 0 then
    local paused = call('SMISMEMBER', P .. 'paused', unpack(queues))
    for i, queue in ipairs(queues) do
      if paused[i] == 0 then list[#list + 1] = queue end
    end
  end
  return list
end

-- Make what is due in *queue* ready, up to *limit*; how many.
local function promote(queue, limit)
  local due = call('ZRANGEBYSCORE', P .. 'later:' .. queue, '-inf', now, 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  for i, r in ipairs(records(due)) do
    local tag = due[i]
    write('ZREM', 'later:' .. queue, tag)
    if r then
      r[STATE] = 'QUEUED'
      line_up(tag, r)
      store(tag, r)
      move('SCHEDULED', queue, -1)
      move('QUEUED', queue, 1)
    end
  end
  flush()
  return #due
end

-- A worker that takes tasks before its first beat has a lease all the same.
local function expect_beats(consumer)
  local worker = worker_of(consumer)
  write('SADD', 'holders', worker)
  call('ZADD', P .. 'lease', 'NX', steady + LEASE, worker)
end

-- Hand *tags*, which have left their line, to *consumer*: the rows of the deliveries, flat, and the
-- bodies. A token is *base* plus the tag.
local function hand_out(tags, consumer, base)
  local rows, bodies, found = {}, {}, {}
  if #tags == 0 then return rows, bodies end
  local n, held = 0, 'held:' .. worker_of(consumer)
  for i, r in ipairs(records(tags)) do
    if r then
      local tag = tags[i]
      move(r[STATE], r[QUEUE], -1)
      move('RUNNING', r[QUEUE], 1)
      r[STATE], r[ATTEMPT], r[TOKEN] = 'RUNNING', r[ATTEMPT] + 1, base + tag
      r[CONSUMER], r[CLAIMED], r[REASON] = consumer, now, ''
      store(tag, r)
      write('HSET', held, tag, consumer)
      found[#found + 1] = tag
      rows[n + 1], rows[n + 2], rows[n + 3], rows[n + 4], rows[n + 5] =
        r[ID], r[TOKEN], r[ATTEMPT], r[RETRIES], r[LOSSES]
      rows[n + 6], rows[n + 7], rows[n + 8], rows[n + 9], rows[n + 10] =
        r[SUSPECTED], r[RUNS], r[QUEUE], r[SENT], tonumber(tag)
      n = n + 10
    end
  end
  bodies = values('body', found)
  expect_beats(consumer)
  flush()
  return rows, bodies
end

-- Delete the records of *tags*, read already and not running.
local function delete(tags, found)
  local count = 0
  for i, r in ipairs(found) do
    if r then
      local tag = tags[i]
      count = count + 1
      if r[FINISHED] then write('ZREM', 'done:' .. r[STATE], tag) else step_out(tag, r) end
      write('HDEL', 'id', r[ID])
      write('HDEL', 'state', tag)
      write('HDEL', 'body', tag)
      write('HDEL', 'progress', tag)
      write('HDEL', 'saved', tag)
      if r[RESULT] then write('HDEL', 'result', tag) end
      if r[FAILED] then write('HDEL', 'failure', tag) end
      for n = 1, r[ENTRIES] do write('HDEL', 'attempt', tag .. ':' .. n) end
      move(r[STATE], r[QUEUE], -1)
      local block = floor(tag / 1024)
      blocks[block] = (blocks[block] or 0) - 1
    end
  end
  flush()
  return count
end
