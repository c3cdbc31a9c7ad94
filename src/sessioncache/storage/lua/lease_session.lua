-- Take the lease of a session, extend it, or release it; nothing else of the session changes, not its rev either.
--
-- KEYS, ARGV[1..6]: as in _session.lua; ARGV[7] who wants it, ARGV[8] its lifetime in ms, 0 to release it, ARGV[9] the
-- number of the lease that is held, '' to take it. Returns {'leased', session_id, number}, or {'held', session_id, ms} if
-- somebody else has it for so long, or {'lease', session_id} if it is not held any more, or as in _session.lua.

local s, status, detail = open()
if not s then
  if ARGV[9] ~= '' and (status == 'absent' or status == 'deleted') then status = 'lease' end
  return refused(status, detail)
end
local number, till, owner = string.match(redis.call('HGET', meta, 'lease') or '', '^(%d+):(%d+):(.*)$')
local is_held = till and tonumber(till) > milliseconds
if ARGV[9] ~= '' then
  if not is_held or number ~= ARGV[9] then return refused('lease') end
elseif is_held and owner ~= ARGV[7] then
  return {'held', ARGV[5], exact(tonumber(till) - milliseconds)}
elseif not is_held then
  number = exact(math.max((tonumber(number) or 0) + 1, microseconds))
end
local lasts = tonumber(ARGV[8]) > 0 and milliseconds + ARGV[8] or 0
redis.call('HSET', meta, 'lease', number .. ':' .. exact(lasts) .. ':' .. ARGV[7])
return {'leased', ARGV[5], number}
