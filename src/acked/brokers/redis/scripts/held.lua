-- Who holds what.
--
-- Keys: held:*, holders, kill (sets), claimant:*, state, body, count (hashes), lease (zset).

local LEASE = 10

local function worker_of(consumer) return string.match(consumer, '^[^/]*') end

-- A tag as it is in held:*.
local function bare(tag) return format('%d', tag) end

-- The tags in a set held:*.
local function held_by(consumer)
  local tags = call('SMEMBERS', P .. 'held:' .. consumer)
  for i = 1, #tags do tags[i] = tag_of(tags[i]) end
  return tags
end

-- Its holder holds it no longer.
local function let_go(tag, r)
  one(srem, 'held:' .. r[CONSUMER], bare(tag))
  if r[REVOKE] == 2 then one(srem, 'kill', tag) end
end

-- Whether *process* may claim as *consumer*. A process can die with a claim on its way, which the
-- server reads after somebody has taken over what the dead one held: nobody would ever learn of
-- those tasks. So who is taken over from claims nothing more.
local function may_claim(consumer, process)
  local key = P .. 'claimant:' .. worker_of(consumer)
  local known = call('HGET', key, consumer)
  if known == process then return true end
  if known == '-' .. process then return false end
  call('HSET', key, consumer, process)
  call('EXPIRE', key, 604800)
  return true
end

-- What was claimed as *holder* (a worker, or one consumer) by another than *process* was its last.
local function bar(holder, process)
  local key = P .. 'claimant:' .. worker_of(holder)
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local consumer, its = all[i], all[i + 1]
    if its ~= process and string.sub(its, 1, 1) ~= '-'
      and (consumer == holder or worker_of(consumer) == holder) then
      call('HSET', key, consumer, '-' .. its)
    end
  end
end

-- A worker that takes tasks before its first beat has a lease all the same.
local function expect_beats(consumer)
  one(sadd, 'holders', consumer)
  call('ZADD', P .. 'lease', 'NX', steady + LEASE, worker_of(consumer))
end

-- Hand *tags*, which have left their line, to *consumer*: how many, their records one after the
-- other, the bodies, and the tags. A token is *base* plus the tag.
local function hand_out(tags, consumer, base)
  local n, found, blobs, held = 0, {}, {}, 'held:' .. consumer
  if #tags == 0 then return 0, '', {}, found end
  for i, r in ipairs(records(tags)) do
    if r then
      local tag = tags[i]
      move(r[STATE], 'RUNNING', r[QUEUE])
      r[STATE], r[ATTEMPT], r[TOKEN] = 'RUNNING', r[ATTEMPT] + 1, base + tag
      r[CONSUMER], r[CLAIMED], r[REASON] = consumer, now, ''
      n = n + 1
      found[n], blobs[n] = tag, pack(r)
      two(hset, 'state', tag, blobs[n])
      one(sadd, held, bare(tag))
    end
  end
  local bodies = values('body', found)
  expect_beats(consumer)
  flush()
  return n, table.concat(blobs), bodies, found
end
