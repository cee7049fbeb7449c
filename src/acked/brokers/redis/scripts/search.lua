-- One step of a search, newest first: records with tags of the given ones, or, without any, from
-- *before* downwards. A step looks at a bounded number of records, and ends early where they are
-- large: nobody else is served meanwhile.
--
-- args[3]  tags in descending order, or false
-- args[4]  before: only smaller tags; 0 starts at the newest
-- args[5]  how many to look at, args[6] how many to find
-- args[7…] what is asked for, each false where it is not: states, queue, task, part of the id
-- args[11] only larger tags
-- args[12] worker or consumer, args[13] sent from then, args[14] sent before then, args[15] a text
--          of the body, args[16] a text of the failure; each false where it is not asked for
-- Returns  {now, where to go on: as *before*, or 0 at the end, or for given tags how many were
--          looked at}, then as read.lua.
--
-- Keys: tag (string), gone, state, body, result, failure, progress (hashes).

local given, before, to_see, to_find = args[3], args[4], args[5], args[6]
local queue, task, part, after = args[8], args[9], args[10], args[11]
local worker, sent_from, sent_before = args[12], args[13], args[14]
local text, error_text = args[15], args[16]
local wanted
if args[7] then
  wanted = {}
  for _, state in ipairs(args[7]) do wanted[state] = true end
end
local found, where, weight = {}, 0, 0
local HEAVY = 8388608 -- bytes that a step looks into or finds
local parts = {'body', 'result', 'failure', 'progress'}

-- Whether the hash *key* has *part* in what it holds for *tag*.
local function holds(key, tag, part)
  local content = call('HGET', P .. key, tag)
  weight = weight + (content and #content or 0)
  return content and string.find(content, part, 1, true)
end

-- Look at *tags*; how many of them, fewer than all when that was enough.
local function look_at(tags)
  for i, blob in ipairs(values('state', tags)) do
    if blob then
      local readable, _, id, name, its_queue, _, sent, state, _, _, _, _, _, _, _, consumer =
        pcall(decode_some, blob, 14, BEFORE_FIELDS)
      if readable and consumer
        and (not wanted or wanted[state]) and (not queue or its_queue == queue)
        and (not task or name == task) and (not part or string.find(id, part, 1, true))
        and (not worker or consumer == worker or string.match(consumer, '^[^/]*') == worker)
        and (not sent_from or sent >= sent_from) and (not sent_before or sent < sent_before)
        and (not text or holds('body', tags[i], text))
        and (not error_text or holds('failure', tags[i], error_text)) then
        found[#found + 1] = tags[i]
        for _, key in ipairs(parts) do weight = weight + call('HSTRLEN', P .. key, tags[i]) end
        if #found == to_find then return i end
      end
      if weight > HEAVY then return i end
    end
  end
  return #tags
end

if given then
  local tags = {}
  for i, number in ipairs(given) do tags[i] = tag_of(number) end
  where = look_at(tags)
else
  local above = (call('GET', P .. 'tag') or 0) + 1
  local number = min(before > 0 and before or above, above) - 1
  while number > after and to_see > 0 and #found < to_find and weight <= HEAVY do
    -- One block at a time; those of which all is deleted are passed over, many at once.
    local block = floor(number / 1024)
    local names = {}
    for i = 0, min(block, 999) do names[i + 1] = block - i end
    local counts, skipped = values('gone', names), 0
    while skipped < #names do
      local all = block == skipped and 1023 or 1024 -- no task has the tag 0
      if tonumber(counts[skipped + 1] or 0) < all then break end
      skipped = skipped + 1
    end
    if skipped > 0 then
      number = (block - skipped + 1) * 1024 - 1
      to_see = to_see - 100
    else
      local tags, least = {}, max(block * 1024, number - to_see + 1, after + 1)
      for k = number, least, -1 do tags[#tags + 1] = tag_of(k) end
      number = number - look_at(tags)
      to_see = to_see - #tags
    end
  end
  where = max(number, -1) + 1
  if number <= after then where = 0 end
end
return {
  pack({now, where}), found, values('state', found), values('body', found), values('result', found),
  values('failure', found), values('progress', found),
}
