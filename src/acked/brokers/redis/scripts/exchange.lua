-- Keep something under a name, if what is kept there is what the caller believes.
--
-- args[3]  name, args[4] whether anything is believed to be there; ARGV[2] the new, ARGV[3] the old
-- Returns  {now, whether anything was there}, and what was there.
--
-- Keys: agreed (hash).

local found = call('HGET', P .. 'agreed', args[3])
local expected = args[4] and ARGV[3]
if found == expected then
  begin()
  call('HSET', P .. 'agreed', args[3], ARGV[2])
end
return {pack({now, found ~= false}), found or ''}
