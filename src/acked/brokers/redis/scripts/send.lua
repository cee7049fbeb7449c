-- Store messages: all or none, and so in one script, however many. Those whose id is known change
-- nothing.
--
-- args[3]  flat rows: id, task, queue, priority, eta, sent; the n-th body is ARGV[n + 1].
-- Returns  now.
--
-- Keys: id, state, body, count (hashes), tag (string), lanes:*, ready:*, later:* (zsets),
-- scheduled (set), wake:* (lists).

local rows = args[3]
local ids = {}
for at = 0, #rows - 1, 6 do ids[#ids + 1] = rows[at + 1] end
local known, new = values('id', ids), {}
for i, id in ipairs(ids) do
  if not known[i] and not new[id] then
    new[#new + 1] = i
    new[id] = true
  end
end
if #new > 0 then
  -- The first write, which Redis refuses when it has no memory to give: then nothing is stored.
  local last = call('INCRBY', P .. 'tag', #new)
  local number = last - #new
  for _, i in ipairs(new) do
    number = number + 1
    local at, tag = (i - 1) * 6, tag_of(number)
    local queue, eta = rows[at + 3], rows[at + 5]
    local later = eta and eta > now
    local r = {
      FORM, rows[at + 1], rows[at + 2], queue, rows[at + 4], rows[at + 6],
      later and 'SCHEDULED' or 'QUEUED', later and eta or now,
      0, 0, 0, 0, 0, 0, '', false, false, '', 0, 0, false, false, false,
    }
    two(hset, 'id', r[ID], tag)
    two(hset, 'body', tag, ARGV[i + 1])
    store(tag, r)
    line_up(tag, r)
    move(nil, r[STATE], queue)
  end
  flush()
end
return pack({now})
