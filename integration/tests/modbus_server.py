"""A Modbus server for units 1 and 2, with 200 holding registers that all have the same value at first.

Usage: modbus_server.py <port> <value>
"""

import sys

from pymodbus.server import StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

port, value = map(int, sys.argv[1:])
registers = SimData(0, values=value, count=200, datatype=DataType.REGISTERS)
StartTcpServer([SimDevice(unit, simdata=[registers]) for unit in (1, 2)], address=("127.0.0.1", port))
