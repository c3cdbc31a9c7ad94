-- Remove a session, whole, and take it off the indexes given.
--
-- KEYS, ARGV[1..6]: as in _session.lua. Answers {status}: ok where there was a session; what is left of a
-- damaged one goes too.

local s, status = open()
if not s and status ~= 'damaged' then return {status} end
redis.call('UNLINK', meta, runs)
for i = 3, #KEYS do redis.pcall('ZREM', KEYS[i], ARGV[5]) end
return s and answer(s) or {status}
