-- What every script begins with: the keys, the time, the records.
--
-- KEYS[1]  the prefix, "{acked}:" for the prefix acked. Every key of this broker begins with it.
--          The braces make all of them one hash slot, so that one script may touch any of them on
--          a Cluster too. No key is the prefix alone: so while a Cluster moves the slot, a node
--          sends the script away at once (ASK) and none runs on half of the keys.
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
--   gone                     hash    T / 1024 -> how many of those 1024 tags were deleted
--   lanes:<queue>            zset    priority -> priority, of the lanes below that may hold tasks;
--                                    priority 0 always may, and is not in it
--   ready:<priority>:<queue> zset    T -> due, of what is QUEUED
--   scheduled                set     queues that may have a key of the next kind
--   later:<queue>            zset    T -> due, of what is SCHEDULED
--   holders                  set     consumers that may have a key of the next kind
--   held:<consumer>          set     T of what it holds, without the zeros in front: a set of small
--                                    numbers is an array of them, and several times as fast
--   claimant:<worker>        hash    consumer -> the process that claims under that name, or that
--                                    process with a minus before it once it was declared dead
--   kill                     set     T, of what is RUNNING and was revoked with terminate
--   done:<state>             zset    T -> finished in microseconds, of what is in that final state
--   count                    hash    <state>:<queue> -> how many
--   paused                   set     queues
--   lease                    zset    worker -> steady time at which its lease runs out
--   counter:<minute>         hash    JSON of queue, task and what is counted -> how many
--   minutes                  zset    minute -> minute, of the key before
--   agreed                   hash    name -> what is agreed on under it, see `Broker.exchange`
--   beat                     hash    worker -> lease in seconds and latest beat, MessagePack
--   wake:<queue>             list    one token for each waiter that should look for work
--   seized:<base>            string  what a seizure with tokens from that base gave, for an hour
--   touched                  string  nothing: it is written so that replicas have something to confirm
--   nothing                  string  is never there: `begin` deletes it, as said below
--
-- Each file below says under "Keys" which of them it reads or writes; `nothing`, which whoever
-- calls `begin` deletes, and `body`, which `records` reads for a record that is unreadable, go
-- without saying.
--
-- A script that fails in its midst keeps what it has written so far. So each one reads and decides
-- first, and writes last. What must go on while memory is at its limit (everything but `send`)
-- begins with a DEL: Redis refuses a script for want of memory only at its first write, and only
-- if that write could need memory. This holds for 6.2 as well, where a script has no flags.

local P = KEYS[1]
local call, format, floor, min, max = redis.call, string.format, math.floor, math.min, math.max
local pack, decode, decode_some = cmsgpack.pack, cmsgpack.unpack, cmsgpack.unpack_limit
local args = decode(ARGV[1])
local now, steady = args[1], args[2]
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
  steady = now
end

-- The fields of a record, after the number of its form. Absent is false, since nil would end a
-- table.
local FORM = 1
local ID, TASK, QUEUE, PRIORITY, SENT, STATE, DUE, ATTEMPT, RETRIES, LOSSES, SUSPECTED, RUNS, TOKEN,
  CONSUMER, CLAIMED, FINISHED, REASON, REVOKE, ENTRIES, STARTED, RESULT, FAILED =
  2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23
-- ENTRIES   how many entries of its history are in `attempt`
-- STARTED   of a SUCCESS: when its last attempt began. That attempt has no entry of its own, as
--           the record says all there is to say of it
-- RESULT    the result itself if it is short; true if it is in `result`
-- FAILED    whether there is one in `failure`
local FIELDS = 22
local BEFORE_FIELDS = 4 -- bytes of a record: the array's header, the form

local AT_ONCE = 2000 -- arguments of one command; unpack is limited by Lua's stack
local TOKENS = 256 -- tokens that a wake list holds at most

local function tag_of(number) return format('%013d', number) end

-- The values of *fields* in the hash *key*, false where there is none.
local function values(key, fields)
  local count = #fields
  if count <= AT_ONCE then
    return count > 0 and call('HMGET', P .. key, unpack(fields)) or {}
  end
  local all = {}
  for i = 1, count, AT_ONCE do
    local last = min(i + AT_ONCE - 1, count)
    for _, value in ipairs(call('HMGET', P .. key, unpack(fields, i, last))) do
      all[#all + 1] = value
    end
  end
  return all
end

-- What is to be written, collected so that one command writes it for a whole batch: key -> the
-- arguments of the command, and their number in `n`.
local hset, hdel, zadd, zrem, sadd, srem = {}, {}, {}, {}, {}, {}
local moved = {} -- queue -> state -> by how much its count changes
local gone = {}  -- likewise, of `gone`
local bells = {} -- queue -> for how many tasks to wake somebody

local function one(keys, key, a)
  local list = keys[key]
  if not list then list = {n = 0} keys[key] = list end
  local n = list.n + 1
  list[n], list.n = a, n
end

local function two(keys, key, a, b)
  local list = keys[key]
  if not list then list = {n = 0} keys[key] = list end
  local n = list.n
  list[n + 1], list[n + 2], list.n = a, b, n + 2
end

local function move(from, to, queue, new_queue)
  local counts = moved[queue]
  if not counts then counts = {} moved[queue] = counts end
  if from then counts[from] = (counts[from] or 0) - 1 end
  if new_queue and new_queue ~= queue then
    counts = moved[new_queue]
    if not counts then counts = {} moved[new_queue] = counts end
  end
  if to then counts[to] = (counts[to] or 0) + 1 end
end

local function flush_each(command, keys)
  for key, list in pairs(keys) do
    for i = 1, list.n, AT_ONCE do
      call(command, P .. key, unpack(list, i, min(i + AT_ONCE - 1, list.n)))
    end
  end
end

local function flush()
  -- Removals first: what leaves one place and comes back to it must be there in the end.
  flush_each('HDEL', hdel)
  flush_each('ZREM', zrem)
  flush_each('SREM', srem)
  flush_each('HSET', hset)
  flush_each('ZADD', zadd)
  flush_each('SADD', sadd)
  for queue, counts in pairs(moved) do
    for state, by in pairs(counts) do
      local field = state .. ':' .. queue
      if by ~= 0 and call('HINCRBY', P .. 'count', field, by) <= 0 then
        call('HDEL', P .. 'count', field)
      end
    end
  end
  for block, count in pairs(gone) do call('HINCRBY', P .. 'gone', block, count) end
  for queue, tasks in pairs(bells) do
    local key, tokens = P .. 'wake:' .. queue, {}
    for i = 1, min(tasks, TOKENS) do tokens[i] = '1' end
    if call('RPUSH', key, unpack(tokens)) > TOKENS then call('LTRIM', key, 0, TOKENS / 2) end
  end
  hset, hdel, zadd, zrem, sadd, srem = {}, {}, {}, {}, {}, {}
  moved, gone, bells = {}, {}, {}
end

-- Writes may begin though memory is at its limit; see above.
local function begin() call('DEL', P .. 'nothing') end

-- A record from its bytes. As values one after the other, since a table that grows field by field
-- costs twice the time; in the place of the form stands where they end.
local function record(blob)
  local r = {decode_some(blob, FIELDS, BEFORE_FIELDS)}
  r[1] = FORM
  return r
end

-- The record of *tag* made anew from its message, for bytes that are none: what waits runs all the
-- same, and takes nothing down that is handled with it. False where the message says nothing either.
local function anew(tag)
  local ok, message = pcall(cjson.decode, call('HGET', P .. 'body', tag) or '')
  if not ok or type(message) ~= 'table' or type(message.id) ~= 'string' then return false end
  return {
    FORM, message.id, message.task or '', message.queue or 'default', message.priority or 0,
    message.sent or 0, 'QUEUED', now, 0, 0, 0, 0, 0, 0, '', false, false, '', 0, 0, false, false,
    false,
  }
end

local function decode_all(blobs)
  for i = 1, #blobs do
    if blobs[i] then
      local r = record(blobs[i])
      if r[FAILED] == nil then error('short') end
      blobs[i] = r
    end
  end
end

-- The records of *tags*, false where there is none.
local function records(tags)
  local all = values('state', tags)
  if not pcall(decode_all, all) then
    for i = 1, #all do
      if type(all[i]) == 'string' then
        local ok, r = pcall(record, all[i])
        all[i] = ok and r[FAILED] ~= nil and r or anew(tags[i])
      end
    end
  end
  return all
end

local function store(tag, r) two(hset, 'state', tag, pack(r)) end

-- A number as text, exactly; many have the same one after the other.
local last_number, last_text

local function exact(number)
  if number ~= last_number then last_number, last_text = number, format('%.17g', number) end
  return last_text
end

-- Scores of done:* are whole microseconds.
local function micros(seconds) return format('%d', floor(seconds * 1000000 + 0.5)) end
