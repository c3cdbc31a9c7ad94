-- Put ahead of a script that writes, after _session.lua: nothing is written unless its lease is held, which then begins
-- anew. The last two of ARGV are the lease's number, and its lifetime in ms.
--
-- The field `lease` of meta is number:until:owner, until in ms. A session that is gone has released its lease.

local lease_ttl, lease_number = table.remove(ARGV), table.remove(ARGV)
local lease_owner

local open_any = open
local function open()
  local s, status, detail = open_any()
  if status == 'absent' or status == 'deleted' or status == 'damaged' then return nil, 'lease' end
  if not s then return nil, status, detail end
  local number, till, owner = string.match(redis.call('HGET', meta, 'lease') or '', '^(%d+):(%d+):(.*)$')
  if number ~= lease_number or tonumber(till) <= milliseconds then return nil, 'lease' end
  lease_owner = owner
  return s
end

local bump_only = bump
local function bump(s, orders)
  bump_only(s, orders)
  redis.call('HSET', meta, 'lease', lease_number .. ':' .. exact(milliseconds + lease_ttl) .. ':' .. lease_owner)
end
