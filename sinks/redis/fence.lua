-- The check that comes before every write of a partition's batch; put before apply.lua and write.lua.
-- KEYS: fence, ... ARGV: epoch, position, end, ...
-- Answers 'done' (an earlier attempt did it), 'fenced' or 'rewound'; else the script goes on.
local fence = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'watermark')
local epoch, position = tonumber(fence[1]), fence[2]
local mine = tonumber(ARGV[1])
if epoch and epoch > mine then return 'fenced' end
if epoch ~= mine then return 'rewound' end
if position ~= ARGV[2] then
  if position == ARGV[3] then return 'done' end
  return 'rewound'
end
