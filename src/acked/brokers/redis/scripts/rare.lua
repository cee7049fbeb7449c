-- The tags of everything in some states, where those are few.
--
-- args[3]  states
-- Returns  {now, tags in no order}, or {now, false} where there are many, or where a state has no
--          index of its own.
--
-- Keys: done:* (zsets), holders, held:* (sets).

local MANY = 20000
local tags = {}

local function take(some)
  for _, tag in ipairs(some) do tags[#tags + 1] = tonumber(tag) end
end

for _, state in ipairs(args[3]) do
  if state == 'RUNNING' then
    for _, consumer in ipairs(call('SMEMBERS', P .. 'holders')) do
      take(call('SMEMBERS', P .. 'held:' .. consumer))
    end
  elseif state == 'FAILURE' or state == 'REVOKED' then
    if call('ZCARD', P .. 'done:' .. state) > MANY then return pack({now, false}) end
    take(call('ZRANGE', P .. 'done:' .. state, 0, -1))
  else
    return pack({now, false})
  end
end
return pack({now, tags})
