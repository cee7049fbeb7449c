-- What is due next of all that is SCHEDULED.
--
-- args[3]  how many
-- args[4]  due time and args[5] tag of what comes before the first, or false and 0
-- Returns  {now}, then as read.lua.
--
-- Keys: scheduled (set), later:* (zsets), state, body, result, failure, progress (hashes).

local limit, due, after = args[3], args[4] and exact(args[4]), tag_of(args[5])
local all = {}

-- The rank in *key* of the first that comes after. What has one score is in the order of its tags.
local function first_of(key)
  if not due then return 0 end
  local low, high = call('ZCOUNT', key, '-inf', '(' .. due), call('ZCOUNT', key, '-inf', due)
  while low < high do
    local middle = floor((low + high) / 2)
    if call('ZRANGE', key, middle, middle)[1] > after then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

for _, queue in ipairs(call('SMEMBERS', P .. 'scheduled')) do
  local key = P .. 'later:' .. queue
  local first = first_of(key)
  local later = call('ZRANGE', key, first, first + limit - 1, 'WITHSCORES')
  for i = 1, #later, 2 do all[#all + 1] = {tonumber(later[i + 1]), later[i]} end
end
table.sort(all, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
local tags = {}
for i = 1, min(limit, #all) do tags[i] = all[i][2] end
return {
  pack({now}), tags, values('state', tags), values('body', tags), values('result', tags),
  values('failure', tags), values('progress', tags),
}
