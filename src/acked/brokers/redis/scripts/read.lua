-- Whole records.
--
-- args[3]  "ids" or "tags", args[4] those
-- Returns  now; the tags that were found; and of each its record, body, result, failure, progress.
--
-- Keys: id, state, body, result, failure, progress (hashes).

local tags = {}
if args[3] == 'ids' then
  for _, tag in ipairs(values('id', args[4])) do
    if tag then tags[#tags + 1] = tag end
  end
else
  for i, number in ipairs(args[4]) do tags[i] = tag_of(number) end
end
return {
  pack({now}), tags, values('state', tags), values('body', tags), values('result', tags),
  values('failure', tags), values('progress', tags),
}
