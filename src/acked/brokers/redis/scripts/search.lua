-- One step of a search, newest first: records with tags of the given ones, or, without any, from
-- *before* downwards. A step looks at a bounded number of records.
--
-- args[3]  tags in descending order, or false
-- args[4]  before: only smaller tags; 0 starts at the newest
-- args[5]  how many to look at, args[6] how many to find
-- args[7]  states or false, args[8] queue or false, args[9] task or false, args[10] part of the id
--          or false
-- Returns  {now, where to go on: as *before*, or 0 at the end, or for given tags how many were
--          looked at}, then as read.lua.
--
-- Keys: tag (string), gone, state, body, result, failure, progress (hashes).

local given, before, to_see, to_find = args[3], args[4], args[5], args[6]
local queue, task, part = args[8], args[9], args[10]
local wanted
if args[7] then
  wanted = {}
  for _, state in ipairs(args[7]) do wanted[state] = true end
end
local found, where = {}, 0

-- Look at *tags*; how many of them, fewer than all when enough were found.
local function look_at(tags)
  for i, blob in ipairs(values('state', tags)) do
    if blob then
      local _, id, name, its_queue, _, _, state = decode_some(blob, 6, BEFORE_FIELDS)
      if (not wanted or wanted[state]) and (not queue or its_queue == queue)
        and (not task or name == task) and (not part or string.find(id, part, 1, true)) then
        found[#found + 1] = tags[i]
        if #found == to_find then return i end
      end
    end
  end
  return #tags
end

if given then
  local tags = {}
  for i, number in ipairs(given) do tags[i] = tag_of(number) end
  where = look_at(tags)
else
  local number = (before > 0 and before or (call('GET', P .. 'tag') or 0) + 1) - 1
  while number > 0 and to_see > 0 and #found < to_find do
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
      local tags, least = {}, max(block * 1024, number - to_see + 1, 1)
      for k = number, least, -1 do tags[#tags + 1] = tag_of(k) end
      number = number - look_at(tags)
      to_see = to_see - #tags
    end
  end
  where = max(number, -1) + 1
  if number <= 0 then where = 0 end
end
return {
  pack({now, where}), found, values('state', found), values('body', found), values('result', found),
  values('failure', found), values('progress', found),
}
