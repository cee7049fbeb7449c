-- Delete records.
--
-- args[3]  "ids": args[4] ids, each once; those that run stay
--          "queue": args[4] a queue, of which up to args[5] that wait
--          "finished": args[4] a final state, of which up to args[5] that finished before args[6]
-- Returns  {now, how many}.
--
-- Keys: id, state, body, result, failure, progress, saved, attempt, gone, count (hashes), lanes:*,
-- ready:*, later:*, done:* (zsets).

-- Delete the records of *tags*, read already, false where one is to stay; how many.
local function delete(tags, found)
  local count = 0
  for i, r in ipairs(found) do
    if r then
      local tag = tags[i]
      count = count + 1
      if r[FINISHED] then one(zrem, 'done:' .. r[STATE], tag) else step_out(tag, r) end
      one(hdel, 'id', r[ID])
      one(hdel, 'state', tag)
      one(hdel, 'body', tag)
      one(hdel, 'progress', tag)
      one(hdel, 'saved', tag)
      if r[RESULT] == true then one(hdel, 'result', tag) end
      if r[FAILED] then one(hdel, 'failure', tag) end
      for n = 1, r[ENTRIES] do one(hdel, 'attempt', tag .. ':' .. n) end
      move(r[STATE], nil, r[QUEUE])
      local block = floor(tag / 1024)
      gone[block] = (gone[block] or 0) + 1
    end
  end
  flush()
  return count
end

begin()
local kind, what, limit = args[3], args[4], args[5]
local tags = {}
if kind == 'ids' then
  for _, tag in ipairs(values('id', what)) do
    if tag then tags[#tags + 1] = tag end
  end
elseif kind == 'queue' then
  for _, lane in ipairs(lanes(what)) do
    if #tags < limit then
      local first = call('ZRANGE', P .. lane, 0, limit - #tags - 1)
      for _, tag in ipairs(first) do tags[#tags + 1] = tag end
    end
  end
  if #tags < limit then
    local later = call('ZRANGE', P .. 'later:' .. what, 0, limit - #tags - 1)
    for _, tag in ipairs(later) do tags[#tags + 1] = tag end
  end
else
  local before = '(' .. micros(args[6])
  tags = call('ZRANGEBYSCORE', P .. 'done:' .. what, '-inf', before, 'LIMIT', 0, limit)
end
local found = records(tags)
for i, r in ipairs(found) do
  if r and r[STATE] == 'RUNNING' then found[i] = false end
end
return pack({now, delete(tags, found)})
