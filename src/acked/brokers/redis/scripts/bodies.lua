-- The messages of tasks.
--
-- args[3]  their tags
-- Returns  {now}, messages, in that order.
--
-- Keys: body (hash).

local tags = {}
for i, number in ipairs(args[3]) do tags[i] = tag_of(number) end
return {pack({now}), values('body', tags)}
