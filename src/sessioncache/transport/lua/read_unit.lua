-- Run reading commands as one unit: what a full server refuses behind MULTI, it runs in a script.
--
-- KEYS: the keys of the commands; ARGV: for each command how many words it has, then those words.
-- Returns the replies in order. Writes nothing.

local replies = {}
local at = 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return replies
